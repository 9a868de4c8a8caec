"""The long-running loops of a node: claim, start, finish, keep alive, clean up."""
