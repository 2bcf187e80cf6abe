"""Tests. They are often not alone on their machine; threads that wait at full speed then take twenty times as long."""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
