"""How `swaplog` finds the stack, and what it says where there is none."""

import json
from pathlib import Path

import pytest

from services.ops.__main__ import main
from services.ops.stack import EXIT_DIFFERS, EXIT_UNREACHABLE, EXIT_USAGE, Refusal, find_settings


@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    for name in ("REDIS_URL", "REDIS_HOST", "DATABASE_URL", "PORT", "PARTITIONS", "REDIS_MEMORY_MB"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    return tmp_path


def test_without_a_stack_there_is_one_line_and_exit_2(nowhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["events"]) == EXIT_USAGE
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert "make run" in captured.err


def test_the_data_folder_names_the_running_stack(nowhere: Path) -> None:
    state = {"redis_url": "redis://there:1/0", "database_url": "postgresql://there/x", "base_url": "http://there:8"}
    (nowhere / "stack.json").write_text(json.dumps(state))
    settings, base_url = find_settings()
    assert (settings.redis(), settings.database_url, base_url) == tuple(state.values())


def test_the_environment_wins_over_the_data_folder(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (nowhere / "stack.json").write_text('{"redis_url": "redis://there:1/0", "database_url": ""}')
    monkeypatch.setenv("REDIS_URL", "redis://here:1/0")
    settings, _ = find_settings()
    assert settings.redis() == "redis://here:1/0"


def test_a_stack_on_a_redis_that_was_given_has_its_own_postgres(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = {"redis_url": "redis://here:1/0", "database_url": "postgresql://there/x", "base_url": "http://there:8"}
    (nowhere / "stack.json").write_text(json.dumps(state))
    monkeypatch.setenv("REDIS_URL", "redis://here:1/0")
    settings, base_url = find_settings()
    assert (settings.redis(), settings.database_url, base_url) == tuple(state.values())


@pytest.mark.parametrize("name", ["partitions", "redis_memory_mb"])
def test_a_stack_knows_what_it_was_started_with(nowhere: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    state = {"redis_url": "redis://here:1/0", "database_url": "postgresql://there/x", name: 64}
    (nowhere / "stack.json").write_text(json.dumps(state))
    assert getattr(find_settings()[0], name) == 64
    monkeypatch.setenv(name.upper(), "32")
    assert getattr(find_settings()[0], name) == 32


@pytest.mark.parametrize(
    ("host", "address"),
    [("::1", "[::1]"), ("::", "[::1]"), ("0.0.0.0", "127.0.0.1"), ("here", "here")],
)
def test_the_gateway_is_where_one_can_connect(
    nowhere: Path, monkeypatch: pytest.MonkeyPatch, host: str, address: str
) -> None:
    monkeypatch.setenv("REDIS_URL", "redis://here:1/0")
    monkeypatch.setenv("HOST", host)
    assert find_settings()[1] == f"http://{address}:8080"


def test_a_broken_stack_file_is_one_line(nowhere: Path) -> None:
    (nowhere / "stack.json").write_text("{")
    with pytest.raises(Refusal, match=r"stack\.json cannot be read"):
        find_settings()


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["events", "--bogus"], EXIT_USAGE),
        (["fly"], EXIT_USAGE),
        (["replay"], EXIT_USAGE),
        (["events", "--since", "yesterday"], EXIT_USAGE),
        (["events", "--type", "Foo"], EXIT_USAGE),
        (["events", "--since", "1m", "--until", "5m"], EXIT_USAGE),
        (["events", "--follow", "--until", "1m"], EXIT_USAGE),
        (["journey", "--base", "localhost"], EXIT_USAGE),
        (["status"], EXIT_UNREACHABLE),
        (["journey", "--base", "http://127.0.0.1:1"], EXIT_UNREACHABLE),
    ],
)
def test_exit_codes_tell_scripts_what_happened(
    nowhere: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], code: int
) -> None:
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:1/0")
    assert main(arguments) == code
    assert EXIT_DIFFERS not in (EXIT_USAGE, EXIT_UNREACHABLE)
