"""What others wrote, on its way to a terminal, which takes some characters for orders: to clear it, to forge a line."""


def harmless(text: str) -> str:
    """The text with each such character escaped, the ends of lines too."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in text)
