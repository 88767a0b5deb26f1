"""Names that Verilog and C++ accept, made from names that users chose. Imports nothing of ours."""

from __future__ import annotations

import re
from collections.abc import Iterable

KEYWORDS = frozenset(
    # SystemVerilog (IEEE 1800-2017, annex B) and C++20, as far as they are plain words; then names that we emit
    """accept_on alias always always_comb always_ff always_latch and assert assign assume automatic before begin bind
    bins binsof bit break buf bufif0 bufif1 byte case casex casez cell chandle checker class clocking cmos
    config const constraint context continue cover covergroup coverpoint cross deassign default defparam design
    disable dist do edge else end endcase endchecker endclass endclocking endconfig endfunction endgenerate
    endgroup endinterface endmodule endpackage endprimitive endprogram endproperty endsequence endspecify
    endtable endtask enum event eventually expect export extends extern final first_match for force foreach
    forever fork forkjoin function generate genvar global highz0 highz1 if iff ifnone ignore_bins illegal_bins
    implements implies import incdir include initial inout input inside instance int integer interconnect
    interface intersect join join_any join_none large let liblist library local localparam logic longint
    macromodule matches medium modport module nand negedge nettype new nexttime nmos nor noshowcancelled not
    notif0 notif1 null or output package packed parameter pmos posedge primitive priority program property
    protected pull0 pull1 pulldown pullup pulsestyle_ondetect pulsestyle_onevent pure rand randc randcase
    randsequence rcmos real realtime ref reg reject_on release repeat restrict return rnmos rpmos rtran rtranif0
    rtranif1 s_always s_eventually s_nexttime s_until s_until_with scalared sequence shortint shortreal
    showcancelled signed small soft solve specify specparam static string strong strong0 strong1 struct super
    supply0 supply1 sync_accept_on sync_reject_on table tagged task this throughout time timeprecision timeunit
    tran tranif0 tranif1 tri tri0 tri1 triand trior trireg type typedef union unique unique0 unsigned until
    until_with untyped use uwire var vectored virtual void wait wait_order wand weak weak0 weak1 while wildcard
    wire with within wor xnor xor alignas alignof asm auto bool catch char concept consteval constexpr constinit
    const_cast co_await co_return co_yield decltype delete double dynamic_cast explicit false float friend goto
    inline long mutable namespace noexcept nullptr operator private public register reinterpret_cast requires
    short sizeof static_assert static_cast switch template thread_local throw true try typeid typename volatile
    wchar_t main clk rst in_valid in_data out_valid out_data
    hgq_add3 LUT6_2 CARRY4 CARRY8""".split()
)


def step_origin(layer: str, number: int) -> str:
    """What the nodes of one time step of a recurrent layer call the layer that they come from.

    Two slashes, which no path of models and layers has: a layer of a model in the model may be called ``step1``.
    """
    return f"{layer}//step{number}"


def layer_of_step(origin: str) -> str | None:
    """The recurrent layer, if `origin` is one of its time steps.

    >>> layer_of_step("encoder/gru//step12"), layer_of_step("encoder/step12")
    ('encoder/gru', None)
    """
    match = re.fullmatch(r"(.+)//step\d+", origin)
    return match[1] if match else None


def identifier(name: str, longest: int = 120) -> str:
    """`name` as an identifier of Verilog and C++: other characters become one underscore, keywords get one appended.

    It is cut to `longest` characters, since it names files as well and Verilator abbreviates beyond 127.

    >>> identifier("conv/1:0"), identifier("3rd"), identifier("wire"), identifier("ä"), len(identifier("a" * 300))
    ('conv_1_0', 'n3rd', 'wire_', 'n_', 120)
    """
    text = re.sub(r"[^A-Za-z0-9]+", "_", name)[:longest]
    if not text or not text[0].isalpha():
        text = "n" + text
    return text + "_" if text in KEYWORDS else text


def identifiers(names: Iterable[str], taken: Iterable[str] = ()) -> dict[str, str]:
    """Each name's identifier, all different (without regard to case), in a way that depends on order alone.

    >>> identifiers(["a b", "a-b", "A_b"])
    {'a b': 'a_b', 'a-b': 'a_b_2', 'A_b': 'A_b_3'}
    """
    used = {name.lower() for name in taken}
    result: dict[str, str] = {}
    for name in dict.fromkeys(names):
        base = text = identifier(name)
        count = 1
        while text.lower() in used:
            count += 1
            text = f"{base}_{count}"
        used.add(text.lower())
        result[name] = text
    return result
