"""How the page of the API looks, by day and by night."""

STYLE = """
:root{color-scheme:light dark;--ink:#1c2128;--dim:#5c6673;--line:#e3e7ec;--soft:#f5f7f9;--paper:#fff;--link:#0b5cad;
--get:#1a7f4b;--post:#0b5cad;--del:#b3261e;--ws:#7a3fb5}
@media(prefers-color-scheme:dark){:root{--ink:#dfe4ea;--dim:#98a3b0;--line:#2b323b;--soft:#1a1f26;--paper:#11151a;
--link:#6cb2ff;--get:#57c98b;--post:#6cb2ff;--del:#ff8a80;--ws:#c79bff}}
*{box-sizing:border-box}
html{scroll-padding-top:1rem}
body{margin:0;display:grid;grid-template-columns:19rem minmax(0,58rem);font:15px/1.55 system-ui,sans-serif;
color:var(--ink);background:var(--paper)}
nav{position:sticky;top:0;height:100vh;overflow-y:auto;padding:1.2rem 1rem 2rem;border-right:1px solid var(--line);
background:var(--soft);font-size:13px}
nav h3{margin:1.1rem 0 .3rem;font-size:13px}nav h3 a{color:var(--ink)}
nav ul{list-style:none;margin:0;padding:0}
nav li a{display:flex;gap:.5rem;align-items:baseline;padding:.12rem 0;color:var(--dim)}
nav li a span{overflow-wrap:anywhere}
main{padding:1.6rem 2.4rem 6rem;min-width:0}
h1{margin:.2rem 0 .6rem;font-size:1.9rem;letter-spacing:-.02em}
h2{margin:3rem 0 .2rem;padding-bottom:.3rem;border-bottom:2px solid var(--line);font-size:1.35rem}
h4{margin:0 0 .3rem;font-size:1rem;display:flex;gap:.6rem;align-items:baseline}
h4 code{background:none;padding:0;font-weight:600;overflow-wrap:anywhere}
.lead{color:var(--dim);margin-top:.2rem}
section{padding:1.1rem 0;border-bottom:1px solid var(--line)}section p{margin:.3rem 0}
a{color:var(--link);text-decoration:none}a:hover{text-decoration:underline}
code,pre{font:13px/1.5 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace}
code{background:var(--soft);padding:.1em .3em;border-radius:4px}
pre{background:var(--soft);border:1px solid var(--line);border-radius:6px;padding:.7rem .9rem;
white-space:pre-wrap;overflow-wrap:anywhere;margin:.6rem 0}
table{border-collapse:collapse;width:100%;margin:.6rem 0;font-size:14px}
th{color:var(--dim);font-weight:500;font-size:13px}
td,th{border-bottom:1px solid var(--line);padding:.35rem .8rem .35rem 0;text-align:left;vertical-align:top}
td:first-child{white-space:nowrap}tr:last-child td{border-bottom:0}
small{color:var(--dim);font-size:13px}i{font-style:normal;color:var(--dim)}sup{color:var(--del)}
details{margin:.4rem 0}summary{cursor:pointer;color:var(--dim);font-size:14px}
.m{display:inline-block;min-width:2.6rem;font:700 11px/1.6 ui-monospace,Menlo,monospace;text-transform:uppercase;
color:var(--post)}
.get{color:var(--get)}.delete{color:var(--del)}.ws{color:var(--ws)}
.s2,.s3{color:var(--get)}.s4,.s5{color:var(--del)}
:target{background:color-mix(in srgb,var(--link) 12%,transparent)}
@media(max-width:800px){body{display:block}nav{position:static;height:auto;border-right:0}main{padding:1rem}
table{display:block;overflow-x:auto}}
"""
