"""Forks of the zygote are what new Pythons would be, only sooner."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from verl_longrl.platform.zygote import Zygote

IMPORTED = "wave"  # a module that Python does not import by itself
WAITS = "import time; print('up', flush=True); time.sleep(60)"


@pytest.fixture(scope="module")
def forking():
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("PYTEST_CURRENT_TEST")  # pytest changes it from test to test
        with Zygote(os.environ, ("numpy", IMPORTED)) as found:
            yield found


def run(forking: Zygote, *arguments: str, **options) -> subprocess.CompletedProcess[str]:
    command = [forking.executable, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, **options)


def start(forking: Zygote, code: str) -> subprocess.Popen[str]:
    process = subprocess.Popen([forking.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    return process


@pytest.mark.parametrize("executable", ["zygote", "python"])
def test_a_fork_is_what_a_new_python_is(forking, executable, tmp_path):
    """The same program by both: arguments, directory, variables, standard streams, exit status, __main__."""
    (tmp_path / "program.py").write_text(
        "import os, signal, sys\n"
        "sys.stderr.write(sys.stdin.read())\n"
        "print(sys.argv[1:], os.getcwd(), os.environ.get('NEW'), os.environ['HOME'], __name__, sys.path[0])\n"
        "print(sys.modules['__main__'].__file__, signal.getsignal(signal.SIGINT), signal.pthread_sigmask(0, []))\n"
        "sys.exit(int(sys.argv[2]))\n"
    )
    command = [forking.executable if executable == "zygote" else sys.executable, "program.py", "a b", "7"]
    variables = {**os.environ, "NEW": "one"}
    inherited = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell has its background jobs ignore it
    try:
        done = subprocess.run(
            command, cwd=tmp_path, env=variables, input="in", capture_output=True, text=True, timeout=60
        )
    finally:
        signal.signal(signal.SIGINT, inherited)
    assert (done.returncode, done.stderr) == (7, "in")
    assert "a new Python" not in forking.log.read_text()
    assert done.stdout == (
        f"['a b', '7'] {tmp_path} one {os.environ['HOME']} __main__ {tmp_path}\n"
        f"{tmp_path}/program.py {signal.default_int_handler} set()\n"
    )


def test_it_has_imported_already_and_draws_numbers_of_its_own(forking):
    code = f"import sys; early = '{IMPORTED}' in sys.modules; import numpy; print(early, numpy.random.random())"
    first, second = run(forking, "-c", code).stdout, run(forking, "-c", code).stdout
    assert first.startswith("True ")
    assert second.startswith("True ")
    assert first != second


def test_a_module_is_run_as_python_does(forking, tmp_path):
    (tmp_path / "ours.py").write_text("import sys; print(__name__, __spec__.name, sys.argv, sys.path[0])")
    done = run(forking, "-m", "ours", "one", cwd=tmp_path)
    assert done.stdout == f"__main__ ours ['{tmp_path}/ours.py', 'one'] {tmp_path}\n"
    assert (
        done.stdout
        == subprocess.run(
            [sys.executable, "-m", "ours", "one"], cwd=tmp_path, capture_output=True, text=True, timeout=60
        ).stdout
    )


def test_open_files_come_along_under_their_numbers(forking, tmp_path):
    with (tmp_path / "file").open("w") as file:
        high = os.dup2(file.fileno(), 77)
        code = f"import os; os.write({file.fileno()}, b'low '); os.write(77, b'high')"
        run(forking, "-c", code, pass_fds=[77, file.fileno()])
        os.close(high)
    assert (tmp_path / "file").read_text() == "low high"


@pytest.mark.parametrize(
    "other", [{"HOME": "/"}, {"PATH": None}], ids=["a variable was changed", "a variable was removed"]
)
def test_where_it_would_differ_a_new_python_runs(forking, other):
    variables = {name: value for name, value in {**os.environ, **other}.items() if value is not None}
    assert run(forking, "-c", f"import sys; print('{IMPORTED}' in sys.modules)", env=variables).stdout == "False\n"
    assert next(iter(other)) in forking.log.read_text()


def test_its_title_can_be_changed(forking):
    code = "import setproctitle; setproctitle.setproctitle('engine'); print(open('/proc/self/cmdline').read())"
    assert run(forking, "-c", code).stdout.startswith("engine\0")


def test_it_is_as_nice_and_as_killable_as_its_client(forking):
    code = "import os; print(os.nice(0), open('/proc/self/oom_score_adj').read().strip())"
    command = ["sh", "-c", f'echo 700 >/proc/$$/oom_score_adj; exec nice -n 7 {forking.executable} -c "{code}"']
    assert subprocess.run(command, capture_output=True, text=True, timeout=60).stdout == f"{os.nice(0) + 7} 700\n"


def test_its_process_group_is_its_clients_kind(forking):
    """Ray kills the process group of a worker that has died: other forks are not in it, what it spawned is."""
    spawned = "'import os; print(os.getpgrp() == {})'.format(os.getpgrp())"
    code = "import os, subprocess; print(os.getpgrp() == os.getpid(), flush=True)\n"
    code += f"subprocess.run([{str(forking.executable)!r}, '-c', {spawned}])"
    assert run(forking, "-c", code, start_new_session=True).stdout == "True\nTrue\n"
    assert run(forking, "-c", "import os; print(os.getpgrp() == os.getpid())").stdout == "True\n"


def test_other_options_of_the_interpreter_are_a_new_pythons(forking):
    assert run(forking, "-O", "-c", "import sys; print(sys.flags.optimize)").stdout == "1\n"


def test_processes_that_a_fork_spawns_are_forks_too(forking, tmp_path):
    (tmp_path / "spawns.py").write_text(
        "import multiprocessing, sys\n"
        "def early(queue): queue.put('wave' in sys.modules)\n"
        "if __name__ == '__main__':\n"
        "    context = multiprocessing.get_context('spawn')\n"
        "    queue = context.Queue()\n"
        "    process = context.Process(target=early, args=(queue,))\n"
        "    process.start()\n"
        "    print(queue.get(timeout=30))\n"
        "    process.join()\n"
        "    print(process.exitcode)\n"
    )
    done = run(forking, str(tmp_path / "spawns.py"))
    assert (done.stdout, done.stderr) == ("True\n0\n", "")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGINT])
def test_signals_reach_the_fork(forking, number):
    process = start(forking, WAITS)
    (child,) = psutil.Process(forking._process.pid).children()
    process.send_signal(number)
    assert process.wait(20) == -number or (number == signal.SIGINT and process.returncode == 1)
    child.wait(20)


def test_a_fork_that_is_killed_ends_as_killed(forking):
    process = start(forking, WAITS)
    psutil.Process(forking._process.pid).children()[0].kill()
    assert process.wait(20) == -signal.SIGKILL


def test_nothing_outlives_it_and_clients_go_on_without():
    forking = Zygote(os.environ, (IMPORTED,))
    process = start(forking, WAITS)
    child = psutil.Process(forking._process.pid).children()[0]
    executable, log = forking.executable.read_text(), forking.log
    forking.close()
    child.wait(20)
    assert process.wait(20) == 1
    assert not log.parent.exists()
    code = f"import sys; print('{IMPORTED}' in sys.modules)"
    done = subprocess.run(["sh", "-c", executable, "sh", "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "False\n"


def test_it_ends_with_a_killed_driver():
    driver = "import os, time; from verl_longrl.platform.zygote import Zygote\n"
    driver += "found = Zygote(os.environ, ()); print(found._process.pid, flush=True); time.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", driver], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    found = psutil.Process(int(process.stdout.readline()))
    process.kill()
    process.wait()
    found.wait(20)


def test_ray_is_not_imported_before_the_fork():
    """Contract with the installed wheels: a fork could not be a Ray worker otherwise."""
    with Zygote({**os.environ, "VERL_PLATFORM": "cpu"}) as forking:
        code = "import sys; print('torch' in sys.modules, 'vllm' in sys.modules, 'ray' in sys.modules)"
        variables = {**os.environ, "VERL_PLATFORM": "cpu"}
        done = subprocess.run(
            [forking.executable, "-c", code], capture_output=True, text=True, timeout=300, env=variables
        )
        assert done.stdout == "True True False\n", forking.log.read_text()
        threads = Path(f"/proc/{forking._process.pid}/task").iterdir()
        names = {(thread / "comm").read_text().strip() for thread in threads}
    assert names <= {"python", "jemalloc_bg_thd"}, "a thread that would be missing in a fork"
