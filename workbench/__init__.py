"""The credit workbench: which turn earned the reward?"""
