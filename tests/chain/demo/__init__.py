"""The demo of the chain: its links with their counters, a player, and a button that sends 200 clients at once."""
