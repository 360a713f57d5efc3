"""The judge service: rules that are final, then a blind jury, then a verdict."""
