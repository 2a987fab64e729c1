import subprocess
import sys


def test_installed_command_answers_without_loading_torch():
    code = "import sys, flaggeo.cli; sys.exit('torch' in sys.modules or 'networkx' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    shown = subprocess.run([sys.executable, "-m", "flaggeo", "--version"], check=True, capture_output=True, text=True)
    assert shown.stdout.count(".") == 2
