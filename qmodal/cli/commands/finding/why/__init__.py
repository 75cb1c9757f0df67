"""`qmodal why`: why a pool, a call or a box does what it does, in one sentence with the facts that it rests on."""
