"""Fuzz: what mutants are made of, what they are thrown at, and the promises they are held to.

corpus      messages, descriptions, credentials and frames to begin with
mutation    one seed, one series of mutants
targets     what a mutant goes through within this process, and what must hold then
hunt        many mutants, those that reach new lines kept; figures
anomalies   one field at a time, as the PROTOS suites do
crowd       many short calls to a running node at once, over one socket
dialogs     valid dialogs with a running node, a mutant at each step
__main__    the long run: make fuzz
"""
