"""Fails where a comparison of the embedded profile exceeds what was promised of it: promises.py COMPARE_JSON..."""

import json
import sys

# Isolated, by "<stage>.<quantity>": the greatest value that may be found.
PROMISED = {
    "resnet101.blob_relative_l2": 1e-5,
    "resnet101.pool5_relative_l2": 1e-6,
    "features.relative_l2": 1e-5,
    "transfer.relative_l2": 1e-3,
    "svm.decision_max_abs": 1e-4,
    "metrics.map": 1e-9,
}

broken = False
for path in sys.argv[1:]:
    with open(path) as file:
        comparison = json.load(file)
    checks = [check for check in comparison["checks"] if check["mode"] == "isolated"]
    for name, bound in PROMISED.items():
        values = [float(check["value"]) for check in checks if f"{check['stage']}.{check['quantity']}" == name]
        kept = bool(values) and all(value <= bound for value in values)
        broken |= not kept
        print(f"{path}: {name} {max(values, default=float('nan')):.3g} of {bound:g} {'ok' if kept else 'BROKEN'}")
sys.exit(broken)
