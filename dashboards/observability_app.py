"""The dashboard: `djp dashboard`, or `streamlit run dashboards/observability_app.py`."""

from __future__ import annotations

from djp_dashboards.app import main

main()
