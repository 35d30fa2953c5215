# SPDX-License-Identifier: Apache-2.0
"""Where PyTorch is: Debian's package belongs to Debian's python, which need not be the first in PATH."""
import os
import subprocess
import sys


def with_torch(argv):
    """Goes on as it is where this python has torch and NumPy, else begins `argv` again in one that has them; where none
    has, says so and ends with 77."""
    for python in (sys.executable, "/usr/bin/python3"):
        r = subprocess.run([python, "-c", "import numpy, torch"], capture_output=True)
        if r.returncode == 0 and python == sys.executable:
            return
        if r.returncode == 0:
            os.execv(python, [python, *argv])
    print("PyTorch is not there: scripts/setup --with-torch installs Debian's python3-torch")
    sys.exit(77)
