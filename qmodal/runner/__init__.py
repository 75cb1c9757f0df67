"""From an app to something that runs: publish it, run it for a block, deploy it, roll it back."""

from __future__ import annotations

from qmodal.runner.deploy import DeployResult as DeployResult
from qmodal.runner.run import deploy_app as deploy_app, run_app as run_app
