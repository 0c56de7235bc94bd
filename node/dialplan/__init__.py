"""The dialplan: facts of a call in, a list of actions out. Pure.

Reading order: expand, route, inline. What the XML says is in `node.config.dialplan`.
"""
