"""What tests and the demo stand on: scripted phones, nodes as real processes, faults by name.

The phone has a SIP of its own, sharing no line with the node's, so that one mistake cannot hide another.
"""
