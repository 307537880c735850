"""The program behind the shipped trace: reads modules of Python's library and indexes their names.

Texts and syntax trees come and go, the last trees are kept, and an index grows and is written and
read back: short and long lives, small and large objects, mixed as in most programs.
"""

import ast
import json
import pathlib
import sysconfig

MODULES = ["bisect", "copy", "csv", "json/decoder", "fractions", "shlex", "heapq", "string"]
KEPT_MAX = 2


def main():
    library = pathlib.Path(sysconfig.get_path("stdlib"))
    index = {}
    kept = []
    for module in MODULES:
        tree = ast.parse((library / module).with_suffix(".py").read_text())
        for node in ast.walk(tree):
            if isinstance(node, ast.Name):
                index.setdefault(node.id, []).append({"module": module, "line": node.lineno})
        kept = [*kept, tree][-KEPT_MAX:]
        if len(index) % 2:
            index = json.loads(json.dumps(index, indent=1))


main()
