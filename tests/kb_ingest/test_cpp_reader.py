from __future__ import annotations

import pytest
import tree_sitter
import tree_sitter_cpp
from hypothesis import given, settings
from hypothesis import strategies as st

from kb.types import Section
from kb_ingest.readers.base import RawFile
from kb_ingest.readers.cpp_source import SLICE_STEPS, CppReader, _parsed

SOURCE = """\
/*
 * Copyright (c) somebody. All rights reserved.
 */

/**
 * \\brief Rows are normalised by one warp each.
 */
#include <cuda.h>

namespace norm { namespace detail {

// Sums over a warp.
// By shuffles.
template <typename T>
__device__ inline T warp_sum(T value) {
  return value;
}  // trailing

struct Params {
  int rows;
  /// Number of elements.
  int count() const {
    int a = 1;
    int b = 2;
    int c = 3;
    int d = 4;
    int e = 5;
    return rows;
  }
};

/* The kernel. */
template <typename T, int BLOCK>
__global__ void __launch_bounds__(BLOCK)
rms_norm(const T* __restrict__ input,
         T* output, Params params) {
  output[threadIdx.x] = input[threadIdx.x];
}

}}  // namespaces

extern "C" void launch(float* x) { norm::detail::rms_norm<float, 128><<<1, 128>>>(x, x, {}); }
int after = 3;
#ifdef FOO
std::vector<int> Cls::method(int a) const noexcept { return {}; }
#endif
"""


def read(text: str, name: str = "norm.cu") -> Section:
    return CppReader().read(RawFile(name, text.encode())).root


def sections(section: Section) -> list[Section]:
    return [section, *(found for child in section.children for found in sections(child))]


def test_functions_kernels_and_classes_are_sections_with_qualified_names() -> None:
    assert [section.title for section in sections(read(SOURCE))[1:]] == [
        "function norm::detail::warp_sum",
        "struct norm::detail::Params",
        "function norm::detail::Params::count",
        "kernel norm::detail::rms_norm",
        "function launch",
        "file scope",
        "function Cls::method",
    ]


def test_comment_and_template_before_a_definition_belong_to_it() -> None:
    by_title = {section.title: section.text for section in sections(read(SOURCE))}
    assert by_title["function norm::detail::warp_sum"].startswith("// Sums over a warp.\n// By shuffles.\ntemplate <typename T>")
    assert by_title["kernel norm::detail::rms_norm"].startswith("/* The kernel. */\ntemplate")
    assert by_title["function norm::detail::Params::count"].startswith("  /// Number of elements.")


def test_title_is_the_first_comment_that_is_no_licence() -> None:
    assert CppReader().read(RawFile("a/norm.cu", SOURCE.encode())).title == "norm.cu: Rows are normalised by one warp each."
    assert CppReader().read(RawFile("a/x.h", b"// Copyright me\n#pragma once\n")).title == "x.h"


PIECES = [
    "void f() {",
    "}",
    "struct S {",
    "};",
    "namespace n {",
    "// c",
    "/* open",
    "*/",
    "int x;",
    "template <class T>",
    "#if 1",
    "#endif",
    "((((",
    '"',
    "",
]


@settings(max_examples=150, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=40))
def test_every_line_is_in_exactly_one_section(pieces: list[str]) -> None:
    text = "\n".join(pieces)
    lines = [line for section in sections(read(text)) for line in section.text.split("\n")]
    assert [line for line in lines if line] == [line for line in pieces if line]


def test_deep_nesting_ends() -> None:
    assert read("namespace a {" * 3000 + "}" * 3000)
    assert read("int x = " + "(" * 20000 + ")" * 20000 + ";")


FAR_FROM_CPP = ["<!--\n" * 4000, "<!a " * 5000, SOURCE + ".. code::\n" * 4000]


@pytest.mark.parametrize("text", FAR_FROM_CPP, ids=["comments of HTML", "declarations of HTML", "directives"])
def test_text_that_is_far_from_cpp_stays_in_one_section_whatever_the_machine(text: str) -> None:
    root = read(text)
    assert not root.children
    assert root.text == text


def test_work_of_the_parser_is_bounded_and_the_same_each_time() -> None:
    parser = tree_sitter.Parser(tree_sitter.Language(tree_sitter_cpp.language()))
    hostile, usual = b"<!--\n" * 800, SOURCE.encode() * 4
    assert [_parsed(parser, data, SLICE_STEPS) is None for data in (hostile, usual, hostile, usual)] == [True, False, True, False]
    assert _parsed(parser, hostile, 100 * SLICE_STEPS) is not None
