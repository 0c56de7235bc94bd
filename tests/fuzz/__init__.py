"""Fuzz: what mutants are made of, what they are thrown at, and the promises they are held to.

corpus      messages, descriptions, credentials and frames to begin with
mutation    one seed, one series of mutants
targets     what a mutant goes through within this process, and what must hold then
hunt        many mutants, those that reach new lines kept; figures
anomalies   one field at a time, as the PROTOS suites do
crowd       many short calls to a running node at once, over one socket
agent       a phone that talks in turns, with mutants of all it says; wherever its bytes go
scripts     what agents talk about
theatre     a worker's whole duty in this process and in virtual time: calls by the thousand
wires       agents on UDP, TCP, TLS, WS and WSS
streams     streams that are framed wrongly, TLS records in halves, odd WebSocket frames
dialogs     all of that against a running node
__main__    the long run: make fuzz
"""
