import { expect, test } from 'vitest';
import { tomlLines } from './toml-lines.ts';

test('finds the line of keys, tables, entries of lists, and what is inside inline values', () => {
  const lines = tomlLines(`# comment with [brackets] = "and quotes
a.b = 1 # c
"quo\\u0074ed" = '''
[not.a.table]
'''
[t]
list = [
  "x", # one
  [1,
   2], { deep = """
"""  , "after" = 1 },
]
[[v]]
n = {p = 1, q = "}"}
  [v.sub]
  k = 2020-01-01T00:00:00Z
[[v]]
n = 2
[[v.w]]
m = ""
`);
  expect(Object.fromEntries(lines)).toEqual({
    'a.b': 2,
    quoted: 3,
    t: 6,
    't.list': 7,
    't.list.0': 8,
    't.list.1': 9,
    't.list.1.0': 9,
    't.list.1.1': 10,
    't.list.2': 10,
    't.list.2.deep': 10,
    't.list.2.after': 11,
    v: 13,
    'v.0': 13,
    'v.0.n': 14,
    'v.0.n.p': 14,
    'v.0.n.q': 14,
    'v.0.sub': 15,
    'v.0.sub.k': 16,
    'v.1': 17,
    'v.1.n': 18,
    'v.1.w': 19,
    'v.1.w.0': 19,
    'v.1.w.0.m': 20,
  });
});
