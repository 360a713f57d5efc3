"""Bodies of templates that mean harm: ways out of Jinja2's sandbox that are publicly known, bombs, Unicode tricks."""

from __future__ import annotations

VALUES = ["''", "x", "1", "[]", "()", "{}", "true", "none", "'a'.upper", "x|lower"]
_DUNDERS = ["__class__", "__mro__", "__globals__", "__init__", "__subclasses__", "__builtins__", "__getattribute__"]
_GLOBALS = ["range", "dict", "lipsum", "cycler", "joiner", "namespace", "self", "config", "request", "g", "url_for"]
_FRAMES = ["gi_frame", "gi_code", "cr_frame", "ag_frame", "f_globals", "f_back", "tb_frame", "func_globals", "im_func"]
_BAD_FILTERS = ["attr", "format", "list", "groupby", "map_", "sum", "reverse", "xmlattr", "pprint", "tojson", "batch"]
_BAD_FILTERS += [
    "center",
    "indent",
    "wordwrap",
    "random",
    "sort",
    "unique",
    "urlize",
    "string",
    "items",
    "filesizeformat",
]
_BAD_TAGS = [
    "{% include '/etc/passwd' %}", "{% import 'os' as o %}", "{% from 'os' import path %}", "{% extends 'a' %}",
    "{% block a %}{% endblock %}", "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "{% call m() %}{% endcall %}",
    "{% do x.append(1) %}", "{% autoescape false %}{{ x }}{% endautoescape %}", "{% debug %}",
    "{% trans %}a{% endtrans %}",
    "{% for a in [1] recursive %}{{ loop([1]) }}{% endfor %}", "{% break %}", "{% include x %}", "{% import x as y %}",
]  # fmt: skip

ESCAPES = [
    *(f"{{{{ {value}.__class__.__mro__[1].__subclasses__() }}}}" for value in VALUES),
    *(f"{{{{ x.{name} }}}}" for name in _DUNDERS),
    *(f"{{{{ x['{name}'] }}}}" for name in _DUNDERS),
    *(f"{{{{ x|attr('{name}') }}}}" for name in _DUNDERS),
    *(f"{{{{ [x]|map(attribute='{name}')|join }}}}" for name in _DUNDERS),
    *(f"{{{{ {name} }}}}" for name in _GLOBALS),
    *(f"{{{{ {name}.__init__.__globals__['os'].popen('id').read() }}}}" for name in _GLOBALS),
    *(f"{{% for a in [1] %}}{{{{ loop.{name} }}}}{{% endfor %}}" for name in (*_FRAMES, *_DUNDERS, "_iterable")),
    *(f"{{{{ x|{name} }}}}" for name in _BAD_FILTERS),
    *_BAD_TAGS,
    "{{ ''.format(x) }}",
    "{{ '{0.__class__.__init__.__globals__}'.format(x) }}",
    "{{ '{0.__class__}'.format_map({'0': x}) }}",
    "{{ '%s'|format(x) }}",
    "{{ '%c' % 4096 }}",
    "{{ '%1000000000d' % 1 }}",
    "{{ x.upper() }}",
    "{{ (x|upper)() }}",
    "{{ [].append(1) }}",
    "{% set y = {} %}{{ y.update({1: 2}) }}",
    "{{ {'a': 1}.items() }}",
    "{{ {'a': 1}.a }}",
    "{{ x is filter('attr') }}",
    "{{ x is callable }}",
    "{{ x is sameas(x) }}",
    "{{ [x]|select('callable')|join }}",
    "{{ [x]|map('attr', '__class__')|join }}",
    "{{ [x]|map('map', attribute='__class__')|join }}",
    "{{ [[x]]|map(attribute='0.__class__')|join }}",
    "{{ [x]|join(attribute='__class__') }}",
    "{{ [x]|select('in', [x.__class__]) }}",
    "{{ x['__cla' ~ 'ss__'] }}",
    "{{ x['\\x5f\\x5fclass\\x5f\\x5f'] }}",
    "{{ x['\\u005f\\u005fclass\\u005f\\u005f'] }}",
    "{{ x[['__class__']|join] }}",
    "{{ x[('__class__',)] }}",
    "{{ x|default(x.__class__) }}",
    "{{ x|replace('a', x.__class__) }}",
    "{% set loop = x %}{{ loop.__class__ }}",
    "{% with y = x.__class__ %}{{ y }}{% endwith %}",
    "{% for loop in [x] %}{{ loop.index.__class__ }}{% endfor %}",
    "{% if x.__class__ %}a{% endif %}",
    "{{ x if x.__class__ else x }}",
    "{{ x.__class__|safe }}",
    "{{ _x }}",
    "{{ __import__('os') }}",
    "{{ ().__class__.__bases__[0].__subclasses__()[40]('/etc/passwd').read() }}",
    "{{ cycler.__init__.__globals__.os.environ }}",
    "{{ undefined_thing }}",
    "{{ x.__init_subclass__() }}",
    "{% raw %}{% endraw %}{{ x.__doc__ }}",
    "{{ 2 ** 9 }}",
    "{{ x.real }}",
    "{{ loop.index }}",
]
"""Each must be refused before anything of it runs; `x` is an input."""

UNICODE = [
    "{{ x.\uff3f\uff3fclass\uff3f\uff3f }}",  # full width
    "{{ x['\uff3f\uff3fclass\uff3f\uff3f'] }}",
    "{{ \uff4c\uff49\uff50\uff53\uff55\uff4d }}",
    "{{ x.\u2040class }}",
    "{{ x._\u0331_class__ }}",
    "{{ \u202ex }}",
    "{{ x\u200b }}",
    "{{ x.__cl\u0430ss__ }}",  # a Cyrillic letter
    "\ufeff{{ x.__class__ }}",
    "{{ x|\uff41ttr('__class__') }}",
    "{\uff5b x.__class__ }}",
    "\uff5b\uff5b x.__class__ \uff5d\uff5d",
    "{{ '\ud7ff\ue000\U0010ffff' ~ x }}",
    "{# \u202e #}{{ x }}",
]
"""Each must be refused, or be a text that tells nothing."""

BOMBS = [
    "{% for a in [1]*1000000000 %}a{% endfor %}",
    "{{ 'a' * 1000000000 }}",
    "{{ x * 1000000000 }}",
    "{{ 10 ** 100000000 }}",
    "{{ " + "9" * 10_000 + " }}",
    "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
    "{{ " + "-" * 5000 + "1 }}",
    "{{ " + "not " * 5000 + "x }}",
    "{{ " + "[" * 5000 + "]" * 5000 + " }}",
    "{{ " + "x~" * 20_000 + "x }}",
    "{% if x %}" * 2000 + "{% endif %}" * 2000,
    "{% for a in [1] %}" * 200 + "{% endfor %}" * 200,
    "{% for i in range(1000000000) %}a{% endfor %}",
    "{% set l = [1,2,3,4,5,6,7,8,9,0] %}" + "{% for a in l %}" * 10 + "{% endfor %}" * 10,
    "{% for a in big %}{% for b in big %}{% for c in big %}{% set d = a %}{% endfor %}{% endfor %}{% endfor %}",
    "{% for a in big %}{% for b in big %}{{ big|join }}{% endfor %}{% endfor %}",
    "{{ x|replace('', big|join)|replace('', big|join)|replace('', big|join) }}",
    "{% set a = big|join %}" + "{% set a = a ~ a %}" * 40 + "{{ a|length }}",
    "{{ 1.5|round(1000000000) }}",
    "{{ 1e308 * 1e308 * 9|round(400) }}",
    "{{ 1 // 0 }}",
    "{{ 1 % 0 }}",
    "{{ x|join(big|join(big|join(big|join(big|join(x))))) }}",
    "{{ [big]|map('join')|map('replace', '', big|join)|map('replace', '', big|join)|join }}",
    "{{ x[999999999999999999999] ~ x[::0] }}",
    "{{ big|join|title|lower|upper|to_slug|to_title|replace('A', big|join)|replace('B', big|join) }}",
]
"""Each must be refused, or come to a small text in time; `big` is a list of 1,000 texts."""
