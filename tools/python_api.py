"""The pages of the Python API: `python tools/python_api.py FOLDER`.

One page, with what `groupnorm.__all__` names.
"""

import sys
from pathlib import Path

import pdoc

import groupnorm

# pdoc looks into the module's namespace, where lazy names are not before they are used.
for name in groupnorm.__all__:
    vars(groupnorm)[name] = getattr(groupnorm, name)

pdoc.render.configure(
    docformat="google",
    show_source=False,
    search=False,
    footer_text=f"groupnorm {groupnorm.__version__}",
    template_directory=Path(__file__).parent / "pdoc",
)
pdoc.pdoc("groupnorm", output_directory=Path(sys.argv[1]))
