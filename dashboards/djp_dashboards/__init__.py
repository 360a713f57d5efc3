"""The dashboard of a gateway, in Streamlit: a client that only calls public RPCs."""
