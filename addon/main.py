"""The mitmproxy script: `mitmdump -s addon/main.py --set hexcache_config=proxy.yaml`."""

import sys
from pathlib import Path

# A mitmdump from elsewhere doesn't know the package beside this file.
sys.path.insert(0, str(Path(__file__).parent))

from hexcache.server import MitmdumpScript

addons = [MitmdumpScript()]
