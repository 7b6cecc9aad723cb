"""The whole chain from the player to S3, with the files of apache/chain and with real programs."""
