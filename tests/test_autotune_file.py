"""The file of answers: killed and simultaneous writers, and whatever else may lie in its place."""

import contextlib
import errno
import fcntl
import json
import os
import random
import subprocess
import sys
import threading
import warnings
from dataclasses import asdict

import numpy as np
import pytest

import cuconv
from cuconv import _answers, _atomic, autotune
from cuconv._backends._cpu import cost
from tune_entries import add, entry, numbers

pytestmark = pytest.mark.usefixtures("nothing_known")


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_what_is_written_is_read(file):
    wanted = [entry(1), entry(2, cold=True, skipped={}), entry(3, device="another")]
    for made in wanted:
        assert add(file, made) == made
    table = _answers.read_table(file)
    assert table.fault == ""
    assert list(table.entries.values()) == wanted
    assert list(table.entries) == [made.key for made in wanted]


def test_autotune_reads_what_it_writes(file):
    """Every fact of every problem and option has a form that the file can have."""
    x, w = np.ones((1, 2, 6, 6), "f2"), np.ones((2, 2, 3, 3), "f2")
    cuconv.conv2d(x, w, algo="autotune", activation="relu", workspace_limit=1 << 30)
    cuconv.conv1d(x[:, :, 0].astype("c8"), w[..., 0].astype("c8"), algo="autotune", layout="NCL")
    table = _answers.read_table(file)
    assert table.fault == ""
    assert list(table.entries) == list(autotune._memory[file])


# ---- killed ----

WRITER = """
import os, signal, sys, time
from pathlib import Path
sys.path.insert(0, {tests!r})
from tune_entries import add, entry, numbers
from cuconv import _atomic
file = Path({file!r})
"""


def script(file, body):
    code = WRITER.format(tests=os.path.dirname(__file__), file=str(file)) + body
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(*processes):
    for process in processes:
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors


def test_a_writer_killed_before_the_renaming_leaves_the_old_file(file):
    """Killed where the new file is whole and has not its name yet."""
    body = """
def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)
for number in range(15):
    began = time.monotonic()
    child = os.fork()
    if child == 0:
        os.replace = die
        add(file, entry(1000 + number))
        os._exit(0)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    assert numbers(file) == list(range(number)), numbers(file)
    assert sum(name.endswith(".tmp") for name in os.listdir(file.parent)) == 1
    add(file, entry(number))  # takes the lock of the dead, and takes away what it left
    assert numbers(file) == list(range(number + 1))
    assert not [name for name in os.listdir(file.parent) if name.endswith(".tmp")]
    assert time.monotonic() - began < 3
"""
    finish(script(file, body))
    assert numbers(file) == list(range(15))
    assert names(file.parent) == [file.name, f"{file.name}.lock"]


def test_a_writer_killed_at_any_time_loses_what_it_had_not_written(file):
    body = """
import random
draw = random.Random(1)
for turn in range(12):
    told, tell = os.pipe()
    child = os.fork()
    if child == 0:
        for number in range(10**6):
            add(file, entry(turn * 1000 + number))
            os.write(tell, b"x")
    os.close(tell)
    os.read(told, 1)  # the first is written
    time.sleep(draw.random() * 0.01)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    written = 1
    while chunk := os.read(told, 4096):
        written += len(chunk)
    os.close(told)
    found = numbers(file)  # every writer before this one, and all that this one said
    assert found[-1] >= turn * 1000 + written - 1, (found, written)
    assert found[-1] <= turn * 1000 + written
"""
    finish(script(file, body))
    assert _answers.read_table(file).fault == ""
    assert {number // 1000 for number in numbers(file)} == set(range(12))


def test_a_forked_child_does_not_keep_the_lock(file):
    body = """
with _atomic.sole_writer(file):
    child = os.fork()
    if child == 0:
        time.sleep(60)
        os._exit(0)
began = time.monotonic()
add(file, entry(1))
os.kill(child, signal.SIGKILL)
assert time.monotonic() - began < 3
"""
    finish(script(file, body))
    assert numbers(file) == [1]


# ---- at once ----


def test_writers_at_once_lose_nothing(file):
    body = "for number in range({0}, {0} + 20): add(file, entry(number))"
    finish(*(script(file, body.format(first)) for first in (0, 100)))
    assert numbers(file) == [first + n for first in (0, 100) for n in range(20)]


def test_threads_at_once_lose_nothing(file):
    def write(first):
        for number in range(first, first + 10):
            add(file, entry(number))

    threads = [threading.Thread(target=write, args=(first,)) for first in (0, 10, 20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert numbers(file) == list(range(30))


def test_a_lock_that_is_held_is_not_waited_for_long(file, monkeypatch):
    """By a process that was stopped, say. The answer holds for this process."""
    made = entry(2)
    add(file, entry(1))
    monkeypatch.setattr(_atomic, "LOCK_SECONDS", 0.05)
    with open(f"{file}.lock") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.warns(RuntimeWarning, match="cannot be written: another process holds"):
            assert add(file, made) == made
    assert numbers(file) == [1]
    add(file, made)
    assert numbers(file) == [1, 2]


def test_the_oldest_answers_go(file, monkeypatch):
    monkeypatch.setattr(_answers, "MOST_ENTRIES", 3)
    for number in (5, 4, 3, 2, 1):
        add(file, entry(number, date=f"2026-01-0{number}T00:00:00+00:00"))
    assert numbers(file) == [3, 4, 5]


# ---- whatever lies there ----

ANSWER = json.dumps({"format": 1, "entries": [asdict(entry(1))]})


def with_field(**changes):
    return json.dumps({"format": 1, "entries": [{**asdict(entry(1)), **changes}]})


CONTENTS = {
    "nothing": "",
    "half": ANSWER[: len(ANSWER) // 2],
    "all but the end": ANSWER[:-1],
    "binary": bytes(range(256)),
    "zeros": bytes(4096),
    "another encoding": "é".encode("latin-1"),
    "nested": "[" * 100_000,
    "nested objects": '{"a":' * 100_000,
    "a number": "1",
    "null": "null",
    "a list": "[]",
    "no format": "{}",
    "another format": '{"format": 2, "entries": []}',
    "a format of another type": '{"format": [1], "entries": []}',
    "no list": '{"format": 1, "entries": {}}',
    "entries of other types": '{"format": 1, "entries": [1, null, "a", [], {}]}',
    "a long number": '{"format": 1, "entries": [' + "9" * 10_000 + "]}",
    "fields of other types": with_field(family=7),
    "no time": with_field(seconds={"direct": float("nan")}),
    "endless time": with_field(seconds={"direct": float("inf")}),
    "a time before time": with_field(seconds={"direct": -1}),
    "a time of another type": with_field(seconds={"direct": True}),
    "times of another type": with_field(seconds=[1]),
    "no date": with_field(date="soon"),
    "a date without zone": with_field(date="2026-01-01T00:00:00"),
    "a date before all": with_field(date="0001-01-01T00:00:00+23:59"),
    "a date after all": with_field(date="9999-12-31T23:59:59-23:59"),
    "a long text": with_field(device="x" * 100_000),
    "a text for the terminal": with_field(device="\x1b[2J"),
    "half a character": with_field(device="\ud800"),
    "another field": with_field(more=1),
    "a deep fact": with_field(problem={"a": [[1]]}),
    "a long fact": with_field(problem={"a": [1] * 9}),
    "many facts": with_field(problem={str(n): n for n in range(1000)}),
    "a large fact": with_field(problem={"a": 2**63}),
    "a broken fact": with_field(problem={"a": 0.5}),
}


def tune():
    return cuconv.conv2d(np.ones((1, 2, 7, 7), "f4"), np.ones((2, 2, 3, 3), "f4"), algo="autotune")


def assert_one_warning(match="is ignored|are ignored"):
    with pytest.warns(RuntimeWarning, match=match) as caught:
        tune()
    assert len(caught) == 1
    assert "\n" not in str(caught[0].message)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tune()
        autotune.forget()
        tune()


@pytest.mark.parametrize("content", CONTENTS.values(), ids=CONTENTS)
def test_a_damaged_file_is_ignored_with_one_warning_and_mended(file, content):
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert_one_warning()
    table = _answers.read_table(file)
    assert table.fault == ""
    assert len(table.entries) == 1


def test_a_broken_entry_leaves_the_others(file):
    good = [asdict(entry(number)) for number in range(4)]
    file.write_text(json.dumps({"format": 1, "entries": [good[0], 1, *good[1:], {}]}))
    assert numbers(file) == [0, 1, 2, 3]
    assert "entries of" in _answers.read_table(file).fault


def test_a_huge_file_is_not_read(file):
    file.touch()
    os.truncate(file, 1 << 40)  # takes no space
    assert_one_warning()
    assert file.stat().st_size < 10_000


def make_link_to_itself(file):
    file.symlink_to(file.name)


def make_two_links(file):
    other = file.with_name("other")
    other.symlink_to(file.name)
    file.symlink_to(other.name)


def make_device(file):
    file.symlink_to("/dev/zero")


def make_unreadable(file):
    file.symlink_to("/proc/self/mem")  # for root as well


PLACES = {
    "a folder": lambda file: file.mkdir(),
    "a full folder": lambda file: (file.mkdir(), (file / "more").touch()),
    "a pipe": os.mkfifo,
    "a link to itself": make_link_to_itself,
    "two links in a circle": make_two_links,
    "a device": make_device,
    "unreadable": make_unreadable,
}


@pytest.mark.parametrize("make", PLACES.values(), ids=PLACES)
def test_what_is_no_file_is_ignored_with_one_warning(file, make):
    make(file)
    assert_one_warning()
    assert not [name for name in names(file.parent) if name.endswith(".tmp")]


def test_a_link_keeps_pointing_where_it_did(file, tmp_path):
    elsewhere = tmp_path / "shared.json"
    file.symlink_to(elsewhere)
    add(file, entry(1))
    assert file.is_symlink()
    assert numbers(elsewhere) == [1]
    assert names(tmp_path) == ["shared.json", "shared.json.lock"]  # one for all who share it


def test_permissions_stay(file):
    add(file, entry(1))
    file.chmod(0o640)
    add(file, entry(2))
    assert file.stat().st_mode & 0o777 == 0o640


FOLDERS = {
    "a file in its place": lambda path: (path.write_text(""), path / "folder")[1],
    "a link to itself": lambda path: (path.symlink_to(path.name), path)[1],
    "one that nobody can write to": lambda path: "/sys",
}


@pytest.mark.parametrize("make", FOLDERS.values(), ids=FOLDERS)
def test_a_folder_that_cannot_be_is_no_error(make, tmp_path, monkeypatch):
    monkeypatch.setenv("CUCONV_CACHE_DIR", str(make(tmp_path / "place")))
    cost.rates.cache_clear()
    assert_one_warning("autotune cache .* (is ignored|cannot be written)")
    cost.rates.cache_clear()


@pytest.mark.parametrize("call", ["open", "fsync", "replace"])
def test_a_full_disk_is_no_error(file, monkeypatch, call):
    add(file, entry(1))
    original = getattr(os, call)

    def full(*arguments):
        if call == "open" and not arguments[1] & os.O_EXCL:
            return original(*arguments)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(_atomic.os, call, full)
        with pytest.warns(RuntimeWarning, match="cannot be written.*No space"):
            add(file, entry(2))
    assert numbers(file) == [1]
    assert names(file.parent) == [file.name, f"{file.name}.lock"]


def damaged(draw, value):
    """One value somewhere inside, replaced by another."""
    anything = [None, True, -1, 2**70, 0.5, 1e999, "", "x" * 999, "\0", [], [[]], {}, {"a": {}}]
    if isinstance(value, dict) and value and draw.random() < 0.9:
        name = draw.choice(list(value))
        if draw.random() < 0.1:
            return {k: v for k, v in value.items() if k != name}
        return {**value, name: damaged(draw, value[name])}
    if isinstance(value, list) and value and draw.random() < 0.9:
        index = draw.randrange(len(value))
        return [*value[:index], damaged(draw, value[index]), *value[index + 1 :]]
    return draw.choice(anything)


def test_no_damage_is_an_error(file):
    """Of drawn values inside, and drawn bytes."""
    draw = random.Random(3)
    whole = json.loads(ANSWER)
    for _ in range(300):
        value = damaged(draw, whole)
        data = bytearray(json.dumps(value).encode())
        if draw.random() < 0.5:
            data[draw.randrange(len(data))] = draw.randrange(256)
            del data[draw.randrange(len(data) + 1) :]
        file.write_bytes(data)
        table = _answers.read_table(file)
        for found in table.entries.values():
            found.time  # noqa: B018
            json.dumps(asdict(found), allow_nan=False)
        assert "\n" not in table.fault


# ---- removing ----


def test_answers_are_removed(file):
    for number in range(4):
        add(file, entry(number))
    assert _answers.remove(file, lambda e: e.problem["batch"] in (1, 2)) == 2
    assert numbers(file) == [0, 3]
    assert _answers.remove(file, lambda e: True) == 2
    assert not file.exists()
    assert _answers.remove(file, lambda e: True) == 0


# ---- the rates of the CPU, in a file of the same kind ----


def test_the_rates_survive_what_lies_there():
    file = cost.rates_file()
    file.parent.mkdir(parents=True, exist_ok=True)
    for make in (*PLACES.values(), lambda file: file.write_text("[" * 100_000)):
        cost.rates.cache_clear()
        make(file)
        assert cost.rates().flop > 0
        with contextlib.suppress(OSError):
            (file / "more").unlink()
        if file.is_dir() and not file.is_symlink():
            file.rmdir()
        else:
            file.unlink()
        file.with_name("other").unlink(missing_ok=True)
    cost.rates.cache_clear()
