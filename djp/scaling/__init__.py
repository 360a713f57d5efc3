"""How many workers a load needs: the rule, the loads that try it, and a model of both."""
