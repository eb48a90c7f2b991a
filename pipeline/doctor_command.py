"""`bindcache doctor`: looks at machine and config, and says what to do."""

from pathlib import Path

import click

from pipeline.options import example, optional_config


@click.command(epilog=example("bindcache doctor", "bindcache doctor --config mine.toml"))
@optional_config
@click.pass_context
def doctor_command(ctx: click.Context, *, path: Path | None, overrides: tuple[str, ...], as_json: bool) -> None:
    """Check machine and config before hours are spent.

    Versions, memory, compiler, and each precision tried on a tiny encoder; with a config also its encoders, its table,
    the disk, and how long embedding and training take. Each line is ok, a warning or a problem, with the next step.
    Exit code 0 without problem, 2 with.
    """
    from dataclasses import asdict

    from pipeline.config import load
    from pipeline.doctor.examination import examine
    from pipeline.doctor.findings import lay_out, summary
    from pipeline.output import report

    config = load(path, overrides) if path else None
    findings = []
    for finding in examine(config, path, overrides):
        findings.append(finding)
        if not as_json:
            click.echo(lay_out(finding))
    problems = any(finding.verdict == "problem" for finding in findings)
    listed = [asdict(finding) for finding in findings]
    report({"problems": problems, "findings": listed}, f"\n{summary(findings)}", as_json=as_json)
    ctx.exit(2 if problems else 0)
