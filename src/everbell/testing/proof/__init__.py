"""Proof from outside: what targets wrote down themselves is held against the ledger.

``record`` is the outside log, ``receiver`` a target that is called, ``checker`` the judge (pure),
``ledger`` reads the product's account, ``cluster`` starts real nodes, ``faults`` breaks them,
``network`` cuts them off, ``soak`` does it all at random for as long as wished.
"""
