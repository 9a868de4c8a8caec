"""Use cases: transaction-sized, asked for by any face, told of who asks."""
