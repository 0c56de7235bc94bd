"""Calls: the actor with its legs, what its dialplan has it do, its record, and its revival by a successor.

Read in this order: `leg`, `exchange`, `call` (one door, one record), `switchboard` (whose a message is);
`arrival`, `invite`, `bodies`, `identity`, `passing`, `loops` (what an INVITE brings); `applications`, `waiting`, `bridging` (the
dialplan); `dial_string`, `expansion`, `destination`, `dial`, `outbound`, `retry`, `targets`, `flows`, `outcome`, `originate`
(calling); `serving`, `reliable`, `prack` (ringing and answers); `requests`, `modify`, `update`, `refresh`, `timer`, `hold`,
`retarget`, `way`, `relay`, `chat`, `challenged`, `asked`, `reply` (inside dialogs); `leaving`, `causes` (the end).

Legs that did not call each other: `union`, `alignment`, `display`, `rerouting`, `announce`; brought together by `transfer`,
`attended`, `referral`, `refer` (REFER), `replaces`, `pickup`, `late` (Replaces), `orders`, `parting`, `deflect` (the console).

What outlives a process: `snapshot`, `recover`. What the console shows: `rows`. Pure decisions: `bridge`. Media: `anchor`.
"""
