"""How much the list of tasks looks at, counts and lists."""

#: Tasks that a list has at most, on all its pages. A link leads to older ones.
LISTED = 10_000

#: Tasks that are looked at, the newest first, where no index has the answer.
LOOKED_AT = 10_000

#: What says in the address how many tasks to look at.
LOOK = "look"

#: Tasks that are counted, the newest first, where no index has the state.
COUNTED = 1_000

#: Each link to look further looks at as many times as many tasks.
FURTHER = 10
MOST_LOOKED_AT = 10_000_000
