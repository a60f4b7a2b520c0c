"""How Sphinx builds the site; `docs/make_site.py` gathers its pages. Nothing is fetched, no notebook is executed."""

from __future__ import annotations

import dataloader

project = "dataloader"
release = dataloader.__version__
language = "en"
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
html_theme = "furo"
html_title = f"dataloader {release}"
html_copy_source = False
html_show_sphinx = False
html_show_copyright = False
html_static_path = ["static"]
html_css_files = ["site.css"]

nb_execution_mode = "off"
nb_ipywidgets_js: dict[str, dict[str, str]] = {}  # would be fetched from elsewhere; bars are saved as HTML
myst_heading_anchors = 4
myst_enable_extensions = ["colon_fence"]
myst_links_external_new_tab = False

default_role = "code"  # single backticks in docstrings are names
autodoc_typehints = "none"  # they are in the docstrings
maximum_signature_line_length = 80
napoleon_google_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True
