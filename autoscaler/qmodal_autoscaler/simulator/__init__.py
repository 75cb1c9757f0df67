"""The scaling policy against made-up or recorded load, beside simplified policies of others and an oracle."""
