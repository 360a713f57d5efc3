"""The frame of the dashboard: its pages, and their refreshing."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from djp.cli.env_file import read_env_file

REFRESH_S = 5
_PAGES = {
    "Observability": {"runs": "Runs", "costs": "Cost Governance", "workers": "Workers", "storage": "Storage"},
    "Work": {
        "templates": "Templates",
        "approvals": "Approvals",
        "batches": "Batches",
        "dead_letters": "Dead letters",
    },
}


def main() -> None:
    """Draw the page that is asked for."""
    read_env_file()
    st.set_page_config(page_title="DJP Mesh", layout="wide")  # no icons: the browser would fetch them from afar
    folder = Path(__file__).with_name("pages")
    pages = {
        section: [st.Page(folder / f"{name}.py", title=title, url_path=name) for name, title in named.items()]
        for section, named in _PAGES.items()
    }
    page = st.navigation(pages)
    live = st.sidebar.toggle(f"Refresh every {REFRESH_S} seconds", key="live")
    page.run()
    if live:
        st.session_state["drawn"] = True
        _again()


@st.fragment(run_every=REFRESH_S)
def _again() -> None:
    """Draws the app once more, when the clock calls this and not the app itself."""
    if not st.session_state.pop("drawn", False):
        st.rerun()
