"""Versions of time-zone data: what a machine has, what workers tell each other, and what the doctor says of it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from interval_scheduler import Cron, InvalidTask
from interval_scheduler.core.codec import pack
from interval_scheduler.core.definition import decode_body
from interval_scheduler.doctor.zones import zone_findings
from interval_scheduler.model.errors import CorruptRecord
from interval_scheduler.support.log import Log
from interval_scheduler.support.zones import NONE, version_in, zone_data
from interval_scheduler.worker.zone_watch import ZoneWatch, versions, with_version
from tests.unit.test_doctor import Lines

NO_DATA = "import sys, zoneinfo; zoneinfo.reset_tzpath([]); sys.modules['tzdata'] = None\n"
"""The beginning of a program on a machine without time-zone data."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "Europe").mkdir()
    (tmp_path / "Europe" / "London").write_bytes(b"TZif")
    return tmp_path


class TestVersion:
    def test_this_machine_has_one_or_none(self) -> None:
        assert zone_data() in ("", NONE) or zone_data()[:4].isdigit()

    @pytest.mark.parametrize(
        ("name", "text", "version"),
        [
            ("tzdata.zi", "# version 2024a\n# more", "2024a"),
            ("+VERSION", "2023c\n", "2023c"),
            ("tzdata.zi", "# redo\n", ""),
            ("tzdata.zi", "\xff\xfe" * 5000, ""),
            ("other", "2023c", ""),
        ],
    )
    def test_a_folder_tells_it(self, folder: Path, name: str, text: str, version: str) -> None:
        (folder / name).write_text(text, encoding="latin-1")
        assert version_in(folder) == version

    def test_a_folder_without_zones_has_none(self, tmp_path: Path) -> None:
        (tmp_path / "tzdata.zi").write_text("# version 2024a\n")
        assert version_in(tmp_path) is None
        assert version_in(tmp_path / "nowhere") is None

    def test_without_a_folder_it_is_that_of_the_package_and_without_that_none(self) -> None:
        program = "from interval_scheduler.support.zones import zone_data; print(zone_data())"
        package = "import zoneinfo; zoneinfo.reset_tzpath([])\n"
        said = [
            subprocess.run([sys.executable, "-c", head + program], capture_output=True, text=True, check=True).stdout
            for head in (package, NO_DATA)
        ]
        assert said[0].strip() >= "2023a"
        assert said[1].strip() == NONE

    def test_utc_needs_no_data(self) -> None:
        """A cron expression without a zone could not be used on a machine without data."""
        program = (
            NO_DATA + "from interval_scheduler import Cron, InvalidTask\n"
            "from interval_scheduler.core.schedule import next_slot\n"
            "print(next_slot(Cron('0 * * * *'), 1))\n"
            "try: Cron('0 * * * *', 'Europe/Paris')\n"
            "except InvalidTask as error: print('install tzdata' in str(error))\n"
        )
        said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
        assert said.split() == ["3600000", "True"]


class TestWorkers:
    def watch(self, own: str) -> tuple[ZoneWatch, Lines]:
        lines = Lines()
        return ZoneWatch(own, Log(lines)), lines

    def test_an_id_carries_it(self) -> None:
        workers = [with_version("web-1-2316-a@b", "2025b"), with_version("b", NONE), with_version("c", ""), "d@x", "e@"]
        assert dict(versions(workers)) == {"web-1-2316-a@b@2025b": "2025b", "b@none": NONE}

    def test_who_has_older_data_tells_it_once(self) -> None:
        watch, lines = self.watch("2023c")
        watch.compare(["a@2023c", "b@2022a", "c", "d@none"])
        assert lines.lines == []
        for _ in range(3):
            watch.compare(["a@2023c", "b@2025b", "c@2024a"])
        [(level, message, fields)] = lines.lines
        assert level == "warning"
        assert "older time-zone data" in message
        assert (fields["here"], fields["there"], fields["worker"]) == ("2023c", "2025b", "b@2025b")
        assert "tzdata" in fields["fix"]
        watch.compare(["a@2026a"])
        assert len(lines.lines) == 2, "a newer one is news"

    def test_who_has_none_tells_it_and_who_does_not_know_says_nothing(self) -> None:
        watch, lines = self.watch(NONE)
        watch.compare(["a@none", "b@2025b"])
        assert "has no time-zone data" in lines.lines[0][1]
        assert "pip install tzdata" in lines.lines[0][2]["fix"]
        watch, lines = self.watch("")
        watch.compare(["b@2025b"])
        assert lines.lines == []

    def test_a_task_that_cannot_be_read_for_want_of_its_zone_is_told_once(self) -> None:
        body = pack([1, ["0 8 * * *", "Mars/Olympus"]])
        for own, text in ((NONE, "this machine has no time-zone data"), ("2025b", "lacks the zone")):
            watch, lines = self.watch(own)
            for _ in range(2):
                with pytest.raises(CorruptRecord) as raised:
                    decode_body(body)
                watch.unreadable(raised.value)
            [(level, message, fields)] = lines.lines
            assert level == "error"
            assert text in message
            assert "tzdata" in fields["fix"]

    def test_other_damage_says_nothing_of_zones(self) -> None:
        watch, lines = self.watch(NONE)
        for error in (CorruptRecord("damaged"), ValueError(), InvalidTask("Cron", "tz", "is", "use")):
            watch.unreadable(error)
        assert lines.lines == []
        assert Cron("* * * * *").tz == "UTC"


def said(own: str, *workers: str) -> list[tuple[str, Any]]:
    findings = zone_findings("redis-0", own, workers)
    assert {finding.check for finding in findings} == {"zones"}
    assert all(finding.fix for finding in findings if finding.level != "ok")
    return [(finding.level, finding.message) for finding in findings]


class TestDoctor:
    def test_the_same_everywhere_is_fine(self) -> None:
        [(level, message)] = said("2025b", "a@2025b", "b")
        assert level == "ok"
        assert "2025b" in message
        assert [level for level, _ in said("")] == ["ok"]

    def test_an_older_worker_is_named(self) -> None:
        [(level, message)] = said("2025b", "a@2025b", "b@2023c", "c@2023c")
        assert level == "warning"
        assert "'b@2023c' (and 1 more)" in message
        assert "2025b" in message

    def test_a_worker_without_data_is_an_error(self) -> None:
        [(level, message)] = said("2025b", "a@none")
        assert level == "error"
        assert "cannot run tasks with a time zone" in message

    def test_this_machine_may_be_the_one(self) -> None:
        [(level, message)] = said("2023c", "a@2025b")
        assert (level, "this machine has time-zone data 2023c" in message) == ("warning", True)
        [(level, message)] = said(NONE, "a@2025b")
        assert (level, "this machine has no time-zone data" in message) == ("warning", True)
