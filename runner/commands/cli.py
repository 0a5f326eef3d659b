"""The command line: the only file that prints and exits.

Modules are imported by the command that needs them, so that ``validate`` starts in a blink.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from runner import __version__
from runner.commands import aftermath
from runner.data.file_kinds import KINDS, READABLE, is_encoding
from runner.system import signals, supervise, surroundings
from runner.system.errors import KEPT, SpecError, TutelageError, UserError
from runner.system.paths import absolute, at_home
from runner.system.sanitize import for_terminal, has_secret, without_secrets

if TYPE_CHECKING:
    from runner.cluster.cluster import Cluster
    from runner.cluster.jobs import Job, Jobs
    from runner.observe.progress import Mode
    from runner.rundir.folder import Folder
    from runner.spec import Spec

BUG, INTERRUPTED, SIGNALLED = 3, 130, 128
RAY_ADDRESS = "RAY_ADDRESS"
PROBE_ROWS = 32
PATIENCE_SECONDS = 300


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit status is drawn in ``errors.py``.

    What may start Ray is watched over by a process of its own, but where a program calls this with ``arguments``.
    """
    surroundings.open_streams()
    os.environ.setdefault("DO_NOT_TRACK", "1")  # the Hub's client and vLLM tell others how they are used
    options = _parser().parse_args(arguments)
    if arguments is None and (options.command in (_run, _predict) or getattr(options, "probe", None)):
        return supervise.supervised(partial(_command, options), _gone)
    with signals.listening():
        return _command(options)


def _command(options: argparse.Namespace) -> int:
    command: Callable[[argparse.Namespace], int] = options.command
    try:
        return command(options)
    except BaseException as raised:
        error = signals.left(raised)
        if isinstance(error, TutelageError):
            with suppress(OSError):  # the terminal may be gone
                _put(f"{error}" if isinstance(error, SpecError) else f"tutelage: {error}", sys.stderr)
            return error.exit_code
        if isinstance(error, KeyboardInterrupt):
            return _stopped(signals.received())
        if isinstance(error, BrokenPipeError):
            return 0
        if fault := surroundings.fault(error):
            with suppress(OSError):
                _put(f"tutelage: {fault}", sys.stderr)
            return UserError.exit_code
        if not isinstance(error, Exception):
            raise
        return _bug("".join(traceback.format_exception(error)))


def _stopped(number: int) -> int:
    with suppress(OSError):  # the terminal may be gone
        print(f"tutelage: stopped; {KEPT}", file=sys.stderr, flush=True)
    return SIGNALLED + (number or signal.SIGINT)


def _gone(facts: dict[str, Any], status: int) -> int:
    """What is to be said in place of the process that did the work; see :func:`runner.system.supervise.supervised`."""
    with suppress(OSError):
        aftermath.record(facts, status)
    if -status in signals.STOPPING:
        return _stopped(-status)
    with suppress(OSError):
        _put(f"tutelage: {aftermath.words(facts, status)}", sys.stderr)
    return UserError.exit_code


def _put(text: str, stream: TextIO | None = None) -> None:
    """Print what people read. File names, columns, labels and the words of servers are not ours: nothing in them may
    speak to the terminal."""
    print(for_terminal(text), file=stream or sys.stdout, flush=True)


def _bug(trace: str) -> int:
    trace = without_secrets(trace)
    name = f"tutelage-{time.strftime('%Y%m%d-%H%M%S')}-"
    try:
        with tempfile.NamedTemporaryFile(
            "w", prefix=name, suffix=".log", delete=False, encoding="utf-8", errors="backslashreplace"
        ) as log:
            log.write(trace)
        kept = f"please report it with {log.name}"
    except OSError as error:
        kept = f"please report it; no log could be written ({error.strerror}), so here it is:\n{trace}"
    last = trace.strip().splitlines()[-1][:300]
    _put(f"tutelage: this is a bug in tutelage: {last}\n{kept}", sys.stderr)
    return BUG


def _validate(options: argparse.Namespace) -> int:
    from runner.spec import check_spec

    problems = []
    for path in map(at_home, options.specs):
        try:
            spec = check_spec(path, options.set)
            words = _asked_vllm(spec) if options.deep else []
        except SpecError as error:
            problems += error.problems
        else:
            _put("\n".join([f"{path}: fine", *words]))
    for problem in problems:
        _put(str(problem), sys.stderr)
    return SpecError.exit_code if problems else 0


def _asked_vllm(spec: Spec) -> list[str]:
    """What vLLM says of the spec's teachers, a line each. :raises SpecError: where it refuses one."""
    from runner.engines import vllm_config

    facts = vllm_config.report(spec)
    refused = [one for one in facts if one["problem"]]
    if refused:
        raise SpecError([spec.places.problem(tuple(one["field"]), one["problem"]) for one in refused])
    return vllm_config.lines(facts) or ["vLLM       was not asked: no teacher of this spec runs on GPUs"]


def _plan(options: argparse.Namespace) -> int:
    from runner.planning.plan import make_plan
    from runner.planning.text import plan_text

    spec = _load(options)
    run = _run_folder(spec, options.runs_dir)
    if options.probe:
        _probe(spec, run, options)
    plan = make_plan(spec, run)
    if options.json:
        print(json.dumps(plan.to_dict()))
    else:
        _put(plan_text(plan, options.show_prompt))
    return 1 if plan.problems else 0


def _probe(spec: Spec, run: Folder, options: argparse.Namespace) -> None:
    from runner.observe.progress import Progress
    from runner.planning.check import check_models
    from runner.rundir.lock import locked
    from runner.stages import label, pipeline

    check_models(spec, elsewhere=_address(options) is not None)
    progress = Progress(sys.stderr, "json" if options.json else "plain")

    with (
        _cluster(options, spec.name) as cluster,
        locked(run, progress.say, patient=cluster.address is not None),
        progress.recorded(run, "plan --probe"),
    ):
        label.probe(pipeline.run_up_to(label.NAME, spec, run, cluster, progress), options.probe)


def _run(options: argparse.Namespace) -> int:
    from runner.cluster import attempts
    from runner.observe.progress import Progress
    from runner.planning.check import check_models
    from runner.rundir.lock import locked
    from runner.stages import pipeline

    spec = _load(options)
    check_models(spec, elsewhere=_address(options) is not None)
    run = _run_folder(spec, options.runs_dir)
    progress = Progress(sys.stdout, _mode(options))
    with (
        _cluster(options, spec.name) as cluster,
        locked(run, progress.say, patient=cluster.address is not None),
        progress.recorded(run, "run"),
        attempts.counted(run, spec),
    ):
        record = pipeline.execute(spec, run, cluster, progress)
        if all(stage["cached"] for stage in record["stages"]):
            progress.say("nothing to do: every stage is there already")
        report = _write_report(run)
    _show_report(run, report, options.json)  # the last line of --json, behind all events
    return 0


def _show_report(run: Folder, report: dict[str, Any], as_json: bool) -> None:
    from runner.report.result_table import result_table

    if as_json:
        print(json.dumps(report))
    else:
        _put(f"{result_table(report)}\n\nreport: {run.path('report.html')}")


def _submit(options: argparse.Namespace) -> int:
    from runner.cluster import bundle
    from runner.cluster.jobs import Jobs
    from runner.planning.check import check_models
    from runner.spec import check_spec

    if "://" not in options.runs_dir and not options.runs_dir.startswith("/"):
        raise UserError(
            f"--runs-dir {options.runs_dir!r}: a job needs a place that all nodes of the cluster reach: a URL such as "
            "s3://bucket/runs, or the absolute path of a shared folder"
        )
    if has_secret(options.runs_dir):
        raise UserError(
            "--runs-dir: no password, token or signature may stand in it, for everybody on the cluster would see it; "
            "put credentials into the environment of `ray start` on the nodes"
        )
    spec = check_spec(at_home(options.spec), options.set, elsewhere=True)
    check_models(spec, elsewhere=True)
    jobs = Jobs(options.address)
    more = [f"--wait={options.wait}", *(["--json"] if options.json else []), *(["--quiet"] if options.quiet else [])]
    with tempfile.TemporaryDirectory(prefix="tutelage-") as scratch:
        package = Path(scratch) / "job"
        package.mkdir()
        print_ = bundle.pack(spec, options.set, options.runs_dir, more, package)
        run = f"{options.runs_dir.rstrip('/')}/{spec.name}"
        job, started = jobs.submit(package, bundle.ENTRYPOINT, spec.name, print_, run)
    _put(f"job {job.id} {'is submitted' if started else 'is at work already'}; run folder: {run}", sys.stderr)
    return 0 if options.detach else _follow(jobs, job)


def _follow(jobs: Jobs, job: Job) -> int:
    """Show what the job says until it ends; the exit status is its own."""
    try:
        for text in jobs.follow(job):
            sys.stdout.write(for_terminal(text))
            sys.stdout.flush()
    except KeyboardInterrupt:
        return _interrupted(jobs, job)
    job = jobs.ended(job)
    if job.status == "SUCCEEDED":
        return 0
    if job.status == "STOPPED":
        _put(f"tutelage: job {job.id} was stopped; the same command goes on from there", sys.stderr)
        return INTERRUPTED
    if job.exit_code is None:
        raise UserError(f"job {job.id} did not run to its end: {job.message}; submit again: what is finished is kept")
    return job.exit_code


def _interrupted(jobs: Jobs, job: Job) -> int:
    """Ctrl-C while following: the job goes on unless the user says that it shall not."""
    answer, number = "", signals.dealt_with() or signal.SIGINT
    if number == signal.SIGINT and sys.stdin is not None and sys.stdin.isatty():
        with suppress(EOFError, KeyboardInterrupt):
            answer = input(f"\nStop job {job.id}? [y/N] ").strip().lower()
    if answer in ("y", "yes"):
        jobs.stop(job)
        _put(f"tutelage: job {job.id} is being stopped; the same command goes on from there", sys.stderr)
    else:
        where = f"{shlex.quote(job.id)} --address {shlex.quote(jobs.address)}"
        _put(
            f"tutelage: detached, job {job.id} goes on; `tutelage logs {where} --follow` shows it, "
            f"`tutelage stop {where}` ends it",
            sys.stderr,
        )
    return SIGNALLED + number


def _status(options: argparse.Namespace) -> int:
    from runner.cluster.jobs import Jobs

    jobs = Jobs(options.address)
    found = [jobs.find(options.job)] if options.job else jobs.list()
    if options.json:
        print(json.dumps([job.to_dict() for job in found]))
        return 0
    width = max((len(job.id) for job in found), default=0)
    for job in found:
        failed = f"  {job.message}" if job.status == "FAILED" else ""
        _put(f"{job.id:<{width}}  {job.status:<9}  {job.started}  {job.run}{failed}")
    if not found:
        _put(f"no job of tutelage on {jobs.address}")
    return 0


def _logs(options: argparse.Namespace) -> int:
    from runner.cluster.jobs import Jobs

    jobs = Jobs(options.address)
    job = jobs.find(options.job)
    if options.follow:
        return _follow(jobs, job)
    sys.stdout.write(for_terminal(jobs.logs(job)))
    return 0


def _stop(options: argparse.Namespace) -> int:
    from runner.cluster.jobs import Jobs

    jobs = Jobs(options.address)
    job = jobs.find(options.job)
    if not job.active:
        _put(f"{job.id}: has ended already ({job.status})")
        return 0
    jobs.stop(job)
    _put(f"{job.id}: {jobs.ended(job).status}")
    return 0


def _predict(options: argparse.Namespace) -> int:
    from runner.commands.predict import Wish, predict
    from runner.observe.progress import Progress

    wish = Wish(
        student=absolute(options.student),
        inputs=tuple(map(absolute, options.inputs)),
        out=absolute(options.out) + ("/" if options.out.endswith("/") else ""),
        text=options.text,
        keep=tuple(options.keep),
        abstain_below=options.abstain_below,
        part_rows=options.part_rows,
        cpus=options.cpus,
        gpus=options.gpus,
        replicas=options.replicas,
        format=options.format,
        encoding=options.encoding,
        delimiter=options.delimiter,
    )
    with _cluster(options, "predict") as cluster:
        found = predict(wish, cluster, Progress(sys.stdout, _mode(options)))
    if options.json:
        print(json.dumps(found))
        return 0
    _put(_labelled(found))
    return 0


def _labelled(found: dict[str, Any]) -> str:
    """What `predict` says in the end."""
    labels = ", ".join(f"{label} {count:,}" for label, count in sorted(found["labels"].items())) or "no label"
    rate = f"; {found['texts_per_second']:.1f} texts/s" if found["texts_per_second"] else ""
    reasons = "; ".join(f"{reason}: {count:,}" for reason, count in found.get("abstained_by_reason", {}).items())
    abstained = f"{found['abstained']:,} abstained" + (f" ({reasons})" if reasons else "")
    lines = [f"{found['rows']:,} texts: {labels}; {abstained}{rate}"]
    lines += [f"{found['reused']:,} were there already"] if found["reused"] else []
    return "\n".join([*lines, f"output: {found['out']}"])


def _report(options: argparse.Namespace) -> int:
    from runner.rundir.folder import Folder

    run = Folder(absolute(options.run))
    if not run.exists("run.json"):
        raise UserError(f"{options.run}: no finished run is there (no run.json); give the folder that `run` printed")
    _show_report(run, _write_report(run), options.json)
    return 0


def _render(options: argparse.Namespace) -> int:
    from dataclasses import fields

    from runner.kubernetes.manifest import render
    from runner.kubernetes.options import RenderOptions
    from runner.spec import load_spec

    asked = {field.name: getattr(options, field.name) for field in fields(RenderOptions)}
    wanted = RenderOptions(**{name: value for name, value in asked.items() if value is not None})
    rendered = render(load_spec(at_home(options.spec), options.set), wanted, options.plan)
    if options.output is None:
        print(rendered.yaml, end="")
    else:
        _write_text(Path(at_home(options.output)), rendered.yaml)
    if rendered.needs:
        _put("\n  ".join(["what the job needs in the cluster before it starts:", *rendered.needs]), sys.stderr)
    return 0


def _write_text(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror}") from error


def _push(options: argparse.Namespace) -> int:
    from runner.publish.push import push
    from runner.rundir.folder import Folder

    pushed = push(Folder(absolute(options.run)), options.to, data=options.data, private=options.private)
    texts = f"{pushed.texts:,} labelled texts" if pushed.texts else "no texts of the data (--data adds them)"
    for place in pushed.places:
        _put(f"pushed: {place}")
    _put(f"with model, card, spec and report; {texts}")
    return 0


def _models(options: argparse.Namespace) -> int:
    from runner import models
    from runner.models.places import check_writable
    from runner.models.reference import pulled

    wanted = {name: pulled(name) for name in options.pull}
    check_writable(wanted.values())
    for name, (reference, revision) in wanted.items():
        _put(str(models.ensure(reference, revision, progress=partial(_say, name))))
    if options.pull:
        return 0
    rows = models.list_models()
    if options.json:
        print(json.dumps([vars(row) for row in rows]))
        return 0
    width = max(len(row.name) for row in rows) + len("catalog:")
    for row in rows:
        size = f"{row.parameters / 1e6:>6.0f} M {row.size_bytes / 1e6:>6.0f} MB"
        here = "here" if row.present else "-"
        print(f"{'catalog:' + row.name:<{width}}  {row.role:<8} {size}  {row.licence:<10}  {here:<4}  {row.sources}")
    return 0


def _say(name: str, text: str) -> None:
    _put(f"{name}: {text}")


def _doctor(options: argparse.Namespace) -> int:
    from runner.system.doctor import RUNS_FOLDER, examine

    findings = examine(None if options.runs_dir is None else absolute(options.runs_dir))
    if options.json:
        print(json.dumps([vars(finding) for finding in findings]))
    else:
        for finding in findings:
            _put(f"{'ok  ' if not finding.advice else 'look'} {finding.name:<14} {finding.value}")
            if finding.advice:
                _put(f"     {'':<14} -> {finding.advice}")
    return UserError.exit_code if any(one.name == RUNS_FOLDER and one.advice for one in findings) else 0


def _init(options: argparse.Namespace) -> int:
    from runner.spec import load_spec, starter

    text = starter(options.name)  # before the file is there: a name that will not do leaves none behind
    path = Path(f"{options.name}.yaml")
    try:
        with open(path, "x", encoding="utf-8") as handle:
            handle.write(text)
    except FileExistsError:
        raise UserError(f"{path}: is there already; choose another name") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror}") from error
    try:
        load_spec(path)
    except SpecError:
        path.unlink()
        raise
    print(f"{path}: written; edit it, then `tutelage validate {path}`")
    return 0


def _load(options: argparse.Namespace) -> Spec:
    from runner.spec import check_spec

    return check_spec(at_home(options.spec), options.set)


def _run_folder(spec: Spec, runs_dir: str) -> Folder:
    from runner.rundir.folder import Folder

    return Folder(absolute(runs_dir)).child(spec.name)


def _address(options: argparse.Namespace) -> str | None:
    """Of the Ray cluster that was asked for; None: Ray in this process."""
    return _address_and_source(options)[0]


def _address_and_source(options: argparse.Namespace) -> tuple[str | None, str]:
    """With where it stands. Ray itself would take the variable before ``auto``."""
    given = os.environ.get(RAY_ADDRESS)
    if given and options.address in (None, "", "auto"):
        return (None if given == "local" else given), RAY_ADDRESS
    return options.address or None, "--address"


@contextmanager
def _cluster(options: argparse.Namespace, run: str) -> Iterator[Cluster]:
    """The Ray cluster that was asked for, or Ray in this process, with metrics of ``run``; let go of at the end."""
    from runner.cluster.cluster import Cluster
    from runner.cluster.node_demand import starts_on_demand

    address, source = _address_and_source(options)
    cluster = Cluster(address, options.wait, run, source, starts_on_demand())
    try:
        yield cluster
    finally:
        if signals.stopping():
            # The rest may be cut short.
            supervise.note(free=True, error=str(signals.cause() or ""), stop=signals.received())
        cluster.stop()


def _write_report(run: Folder) -> dict[str, Any]:
    from runner.publish.cards import build_cards
    from runner.report.build import show
    from runner.report.gather import gather

    found = gather(run.read, run.exists)
    report, page = show(found)
    run.write_json("report.json", report)
    run.write("report.html", page.encode())
    for name, card in build_cards(found, report).items():
        run.write(name, card.encode())
    return report


def _mode(options: argparse.Namespace) -> Mode:
    if options.json:
        return "json"
    if options.quiet:
        return "quiet"
    return "terminal" if sys.stdout.isatty() else "plain"


def _count(most: int, least: int = 1) -> Callable[[str], int]:
    def count(text: str) -> int:
        if not (text.isascii() and text.isdigit()) or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"a number from {least} to {most} is wanted, not {text!r}")
        return int(text)

    return count


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"a probability from 0 to 1 is wanted, not {text!r}")
    return value


def _encoding(text: str) -> str:
    if not is_encoding(text):
        raise argparse.ArgumentTypeError(f"there is no character set {text!r}: name one such as cp1252 or shift_jis")
    return text


def _delimiter(text: str) -> str:
    found = "\t" if text == r"\t" else text
    if len(found) != 1 or found in '"\r\n\0':
        raise argparse.ArgumentTypeError(f"one character such as ';' or '\\t' is wanted, not {text!r}")
    return found


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tutelage",
        description="Turn a language model that you host into a small classifier that you own.",
    )
    parser.add_argument("--version", action="version", version=f"tutelage {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, function: Callable[[argparse.Namespace], int], text: str, example: str) -> Any:
        sub = commands.add_parser(
            name,
            help=text,
            description=text,
            epilog=f"example: {example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        sub.set_defaults(command=function)
        return sub

    def spec_options(sub: argparse.ArgumentParser) -> None:
        sub.add_argument(
            "--set", action="append", default=[], metavar="FIELD=VALUE", help="override a field of the spec"
        )

    def folder_options(sub: argparse.ArgumentParser) -> None:
        sub.add_argument(
            "--runs-dir", default="runs", metavar="DIR", help="where runs are kept: a folder or URL (runs)"
        )

    def json_option(sub: argparse.ArgumentParser, text: str = "one JSON object a line, the result last") -> None:
        sub.add_argument("--json", action="store_true", help=text)

    def progress_options(sub: argparse.ArgumentParser) -> None:
        json_option(sub)
        sub.add_argument("--quiet", action="store_true", help="no progress, only the result")

    def cluster_options(sub: argparse.ArgumentParser, text: str = "(default: Ray in this process)") -> None:
        sub.add_argument("--address", metavar="auto|HOST:PORT", help=f"a running Ray cluster {text}")
        wait_option(sub)

    def wait_option(sub: argparse.ArgumentParser) -> None:
        sub.add_argument(
            "--wait",
            type=_count(86_400, 0),
            default=PATIENCE_SECONDS,
            metavar="SECONDS",
            help=f"how long a cluster may take to bring up nodes that are asked for ({PATIENCE_SECONDS})",
        )

    def dashboard_option(sub: argparse.ArgumentParser) -> None:
        sub.add_argument(
            "--address",
            metavar="URL",
            help="the cluster's dashboard (RAY_API_SERVER_ADDRESS, or http://127.0.0.1:8265)",
        )

    sub = command("init", _init, "write a commented starter spec", "tutelage init my-classifier")
    sub.add_argument("name", metavar="NAME")
    sub = command("validate", _validate, "check specs and their data files, offline", "tutelage validate specs/*.yaml")
    sub.add_argument("specs", nargs="+", metavar="SPEC")
    sub.add_argument(
        "--deep", action="store_true", help="also ask vLLM, where it is installed, about teachers on GPUs: 10 to 50 s"
    )
    spec_options(sub)
    sub = command("plan", _plan, "say what a run would do and cost", "tutelage plan specs/quickstart.yaml")
    sub.add_argument("spec", metavar="SPEC")
    spec_options(sub)
    folder_options(sub)
    sub.add_argument(
        "--probe",
        type=_count(100_000),
        nargs="?",
        const=PROBE_ROWS,
        metavar="ROWS",
        help=f"label some rows first ({PROBE_ROWS}) and plan from what they took; their answers are kept",
    )
    sub.add_argument("--show-prompt", action="store_true", help="print the whole prompt of one row")
    cluster_options(sub, "for --probe")
    json_option(sub)
    sub = command(
        "run",
        _run,
        "run a spec, or what of it is not there yet",
        "tutelage run specs/quickstart.yaml --set student.epochs=3",
    )
    sub.add_argument("spec", metavar="SPEC")
    spec_options(sub)
    folder_options(sub)
    cluster_options(sub)
    progress_options(sub)
    sub = command(
        "submit",
        _submit,
        "run a spec as a job of a Ray cluster, and show what it says",
        "tutelage submit specs/quickstart.yaml --address http://HEAD:8265 --runs-dir s3://bucket/runs",
    )
    sub.add_argument("spec", metavar="SPEC")
    spec_options(sub)
    dashboard_option(sub)
    sub.add_argument(
        "--runs-dir", required=True, metavar="URL", help="where runs are kept: a URL or path that all nodes reach"
    )
    wait_option(sub)
    sub.add_argument("--detach", action="store_true", help="do not wait for the job's end")
    progress_options(sub)
    sub = command("status", _status, "list the jobs of a cluster", "tutelage status quickstart")
    sub.add_argument("job", nargs="?", metavar="RUN_OR_ID", help="one job: its id, the spec's name, or the run folder")
    dashboard_option(sub)
    json_option(sub, "the jobs as JSON")
    sub = command("logs", _logs, "show what a job has said", "tutelage logs quickstart --follow")
    sub.add_argument("job", metavar="RUN_OR_ID", help="its id, the spec's name, or the run folder")
    dashboard_option(sub)
    sub.add_argument("--follow", action="store_true", help="until the job ends; its exit status becomes ours")
    sub = command("stop", _stop, "stop a job; what it finished is kept", "tutelage stop quickstart")
    sub.add_argument("job", metavar="RUN_OR_ID", help="its id, the spec's name, or the run folder")
    dashboard_option(sub)
    sub = command(
        "predict",
        _predict,
        "label files with a trained student",
        "tutelage predict runs/quickstart 'texts/*.csv' -o labelled",
    )
    sub.add_argument("student", metavar="MODEL_OR_RUN", help="a run folder, or a folder with a trained classifier")
    sub.add_argument("inputs", nargs="+", metavar="INPUT", help=f"{READABLE}: files, globs or URLs")
    sub.add_argument(
        "-o",
        "--out",
        required=True,
        metavar="OUT",
        help="a folder for parquet parts, or a file: .csv, .tsv, .jsonl, .json, .parquet, .csv.gz, ...",
    )
    sub.add_argument("--text", default="text", metavar="COLUMN", help="the column with the text (text)")
    sub.add_argument("--format", choices=["auto", *KINDS], default="auto", help="of the inputs (by their names)")
    sub.add_argument("--encoding", type=_encoding, metavar="NAME", help="the inputs' character set (UTF-8)")
    sub.add_argument("--delimiter", type=_delimiter, metavar="CHARACTER", help="between the columns of csv files (,)")
    sub.add_argument("--keep", action="append", default=[], metavar="COLUMN", help="a column that goes along")
    sub.add_argument(
        "--abstain-below", type=_share, default=0.0, metavar="P", help="abstain where the probability is under this (0)"
    )
    sub.add_argument(
        "--part-rows", type=_count(1_000_000), default=10_000, metavar="N", help="rows in each part (10000)"
    )
    sub.add_argument("--cpus", type=_count(1024), metavar="N", help="cores for each replica (default: all of a node)")
    sub.add_argument("--gpus", type=_count(16, 0), metavar="N", help="GPUs for each replica (default: one if there is)")
    sub.add_argument(
        "--replicas", type=_count(10_000), default=1, metavar="N", help="students side by side, at most (1)"
    )
    cluster_options(sub)
    progress_options(sub)
    _render_options(command, spec_options)
    sub = command("report", _report, "rebuild the report of a run", "tutelage report runs/quickstart")
    sub.add_argument("run", metavar="RUN")
    json_option(sub, "print report.json on one line")
    sub = command(
        "push",
        _push,
        "write or upload the trained model with its cards, spec and report",
        "tutelage push runs/quickstart --to my-classifier",
    )
    sub.add_argument("run", metavar="RUN")
    sub.add_argument("--to", required=True, metavar="DIR|hf:OWNER/NAME", help="a local folder, or a name on the Hub")
    sub.add_argument(
        "--data", action="store_true", help="the labelled texts as well, as a data set (without it no text leaves)"
    )
    sub.add_argument(
        "--private",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="whether a repository that is made on the Hub is private (yes)",
    )
    sub = command(
        "models",
        _models,
        "list the model catalog, or fetch models ahead",
        "tutelage models pull all-minilm-l6-v2",
    )
    actions = sub.add_subparsers(metavar="pull")
    sub.set_defaults(pull=[])
    json_option(sub, "the catalog as JSON")
    pull = actions.add_parser("pull", help="fetch models into the cache, for use without a network")
    pull.add_argument("pull", nargs="+", metavar="NAME", help="of the catalog, or on the Hub: OWNER/NAME[@REVISION]")
    sub = command("doctor", _doctor, "say what will work on this machine", "tutelage doctor")
    json_option(sub, "findings as JSON")
    sub.add_argument(
        "--runs-dir", metavar="DIR|URL", help="also see whether runs can be kept there; exit status 1 where they cannot"
    )
    return parser


def _render_options(command: Callable[..., Any], spec_options: Callable[[argparse.ArgumentParser], None]) -> None:
    sub = command(
        "render",
        _render,
        "write the Kubernetes manifest of a spec, for KubeRay",
        "tutelage render specs/financial-sentiment.yaml --cloud eks --runs-dir s3://bucket/runs -o job.yaml",
    )
    sub.add_argument("spec", metavar="SPEC")
    spec_options(sub)

    def option(name: str, metavar: str, text: str, **more: Any) -> None:
        sub.add_argument(name, metavar=metavar, help=text, **more)

    sub.add_argument("--target", choices=["rayjob"], default="rayjob", help="what to write: a RayJob and its ConfigMap")
    sub.add_argument("--cloud", choices=["gke", "eks", "aks", "plain"], help="whose nodes (plain)")
    option("-o", "FILE", "where to write it (standard output)", dest="output")
    option("--image", "IMAGE", "the image of all pods (tutelage:gpu or tutelage:cpu)")
    option("--head-image", "IMAGE", "of head and submitter (--image; without it, beside GPUs, tutelage-head:cpu)")
    option("--namespace", "NAME", "the namespace (tutelage)")
    option("--claim", "NAME", "the volume that all pods mount at /mnt/tutelage (tutelage)")
    option("--runs-dir", "DIR|URL", "where runs are kept (/mnt/tutelage/runs)")
    option("--data-dir", "DIR|URL", "where the spec's data lie (/mnt/tutelage/data)")
    option("--secret", "NAME", "a Secret that becomes the pods' environment", action="append", dest="secrets")
    option("--queue", "NAME", "a Kueue queue: suspended until admitted, all pods at once, no autoscaling")
    option("--hours", "N", "the deadline of each attempt (24)", type=_count(24 * 365))
    option("--retries", "N", "further attempts, each in a new cluster, from what is stored (2)", type=_count(100, 0))
    option("--gcs-redis", "HOST:PORT", "keep Ray's cluster state in Redis (redis-password in the first --secret)")
    sub.add_argument("--online", action="store_true", help="let the pods ask the Hugging Face Hub")
    sub.add_argument("--plan", action="store_true", help="read the data here, and note what the plan expects")
