"""The control loop: the election, the leader's rounds, and the writing of its decisions."""
