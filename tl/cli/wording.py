"""Wording of other libraries that our messages depend on, and why only the text has it.

jsonargparse (4.53) joins the reasons of a union's members to one text and keeps only the exception
of the first; its own exceptions are ``ValueError``, ``TypeError`` and ``KeyError`` with a text and
nothing else. So only the text says where and why an option was refused. torch and Lightning raise
``RuntimeError`` with a text. ``tests/cli/test_wording.py`` feeds each pattern the real message.
"""

from __future__ import annotations

import re

# jsonargparse: where the mistake is

#: One of the nested options down to the one refused; each level adds its own to the text.
PARSER_KEY = re.compile(r'Parser key "([^"]+)"')
#: An option within an option, and its value: they are joined to one text before they are refused.
NESTED_OPTION = re.compile(r"NestedArg\(key='([^']+)', val='?(.*?)'?\)")
#: The class whose arguments are refused; its parser does not know that it is a class's.
CLASS_AT_FAULT = re.compile(r"Problem with given class_path '([^']+)'")
#: A class that was given by its path and options, in the value that is refused.
CLASS_GIVEN = re.compile(r"'class_path': '([^']+)'")
#: The value that is refused, of a union or of a single type.
VALUE = re.compile(r"(?:but got|(?:Given|Got) value:) (.*?)(?:\. Got value.*)?$", re.MULTILINE)

# jsonargparse: what the mistake is

#: An option that a class, or a verb, lacks: a ``KeyError`` of which only the text has the name.
NOT_ACCEPTED = re.compile(
    r"[Oo]ption '(\S+)' is not accepted(?:\. Got value: Namespace\(class_path='([^']+)')?"
)
UNKNOWN_TO_VERB = re.compile(r"does not accept option '([^']+)'")
#: argparse's own; no exception comes with it.
UNRECOGNIZED = re.compile(r"[Uu]nrecognized arguments: (\S+)")
#: ``AttributeError`` and ``ModuleNotFoundError`` of an import; a union keeps their text alone.
NO_ATTRIBUTE = re.compile(r"(?:module '([^']+)' )?has no attribute '([^']+)'")
NO_MODULE = re.compile(r"No module named '([^']+)'")
#: Arguments that a class needs: a ``TypeError`` without names.
REQUIRED = re.compile(r"arguments are required: (.+)")
#: A class of another kind; its path is left out where it is the whole value of a union.
WRONG_KIND = re.compile(
    r"(?:(?:Import path |Expected ')([\w.]+)'? |Import path )"
    r"(?:does not correspond to|to be) a subclass of (?:Union\[|<class ')?([\w, ]+)"
)
#: A word in the place of a class path.
NO_PATH = re.compile(r"Expected a dot import path string: (\w+)$", re.MULTILINE)
#: Something else in the place of a class: what Python and jsonargparse say of lists, numbers, maps.
NO_CLASS = re.compile(
    r"unhashable type|argument of type '\w+' is not iterable|'\w+' object has no attribute|"
    r"class_path='typing\.|Expected a dot import path|"
    r"Parser key \"\w+\":\s+Not a valid subclass|Unexpected import path format"
)
#: The types, or the choices, that were expected.
EXPECTED = re.compile(r"Expected (?:a )?(?:<class '([^']+)'>|typing\.Literal\[([^\]]*)\])")
#: A member's reason that is none of the above: what a class of ours says of its arguments.
REASON = re.compile(
    r"^\s*- (?!Expected|Does not|Not of type|Parser key|Problem)(.+)$", re.MULTILINE
)

#: A link from the data to the model that failed; what the data said is the exception's cause.
LINK_FAILED = "Call to compute_fn of link "

# Lightning

#: Callbacks whose states have the same key in a checkpoint: a bare ``RuntimeError``.
SAME_STATE = re.compile(r"Found more than one stateful callback of type `(\w+)`")

# torch

#: An error in a loader's worker comes as an exception of its type with that process's traceback as
#: its text; what it said is the last line, behind its type.
IN_WORKER = re.compile(r"Caught \w+ in DataLoader worker process")
#: A worker that the kernel ended, or to which it gave no shared memory: a bare ``RuntimeError``.
NO_SHARED_MEMORY = re.compile(r"DataLoader worker .* Bus error|unable to allocate shared memory")
#: Names and shapes of a ``state_dict`` that do not fit: a ``RuntimeError`` with a list.
KEYS = re.compile(r"(Missing|Unexpected) key\(s\) in state_dict: (.*)")
SHAPES = re.compile(r"size mismatch for ([^:]+):")
