"""What a folder of parts says of itself when all of them are there."""

from typing import Any

from embcli.pipelines.shards.folder import Folder, as_json, open_folder, read_json
from embcli.pipelines.shards.part import PartReport, part_name, read_report, report_name
from embcli.pipelines.shards.plan import MANIFEST, Plan


def _find_parts(plan: Plan, folder: Folder) -> tuple[list[PartReport], list[int]]:
    """Look whether all parts are there.

    Returns
    -------
    reports : list of PartReport
        Of all; or none, if any is missing.
    missing : list of int

    Raises
    ------
    UsageError
        A part is of something else.
    """
    names, every = folder.names(), range(len(plan.parts))
    missing = [n for n in every if not {part_name(n), report_name(n)} <= names]
    if missing:  # then nobody wants to know more
        return [], missing
    reports = []
    for number in every:
        report = read_report(plan, number, folder)
        if report is None or folder.size(part_name(number)) != report.bytes:
            missing.append(number)
        else:
            reports.append(report)
    return reports, missing


def complete_manifest(plan: Plan) -> list[int]:
    """Write into the manifest what is in the parts, if all of them are there.

    Whoever sees all of them may do it, and does the same.

    Returns
    -------
    missing : list of int
    """
    folder = open_folder(plan.folder)
    reports, missing = _find_parts(plan, folder)
    manifest = read_json(folder, MANIFEST)
    if missing or manifest is None:
        return missing
    completed = manifest | _totals(reports)
    if completed != manifest:
        folder.write(MANIFEST, as_json(completed))
    return []


def _totals(reports: list[PartReport]) -> dict[str, Any]:
    return {
        "complete": True,
        "rows": sum(report.rows for report in reports),
        "vectors": sum(report.vectors for report in reports),
        "skipped": sum(report.skipped for report in reports),
        "sums": [report.sum for report in reports],
    }
