"""The governance service: budgets, reservations, charges and settlements. Owns the ledger."""
