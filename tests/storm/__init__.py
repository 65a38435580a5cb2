"""A storm: every process of an installation is killed again and again while proposals are made, approved and applied."""
