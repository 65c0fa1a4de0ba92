"""What the small tokenizers of tests/golden are trained on and tried with."""

CORPUS = [
    "The quick brown fox jumps over the lazy dog; it's what they'll do, isn't it?",
    "for (size_t i = 0; i < count; ++i) {\n    total += values[i] * 2.5f;\n  }\n\n",
    "def tokenise(text: str) -> list[int]:\n\treturn [ord(c) for c in text if c != ' ']\n",
    "Größe, naïve café, Ελληνικά, русский текст, 中文字符处理, 日本語の文章, 한국어 문장, العربية",
    "#include <vector>\r\n#define MAX_VALUE 0xFFFF12345 // the largest value\r\n",
    "aaaaaaaaaaaaaaaaaaaa ======== -------- ........ 1234567890 2024-06-07 12:34:56",
] * 12

TEXTS = [
    "",
    " ",
    "a",
    "Hello world",
    "  two leading and two trailing  ",
    "line\n\n  indented\r\n\ttab\n",
    "it's we'll they've I'M don'T 'quoted' ''s",
    "numbers 1 22 333 4444 0x1F 3.14 1,000,000 ½ ٣٤ Ⅷ 𝟘",
    "for (size_t j = 0; j < total; ++j) { values[j] -= 1; }\n",
    "Größe café — “quotes” … naïve re\u0301sume\u0301",
    "中文字符处理日本語の文章한국어 문장",
    "emoji 😀👍🏽👩‍👩‍👧‍👦🇩🇪 mixed中abc",
    "nul\x00 bell\x07 escape\x1b del\x7f nbsp\u00a0 ideographic\u3000 zwsp\u200b nel\u0085",
    "line\u2028separator paragraph\u2029 mongolian\u180e bom\ufeff",
    "a<|endoftext|>b <|endoftext|> <|endoftext|><|pad|>",
    "x [MASK] y[MASK]z \n[MASK]\t end",
    "word wordy sword word. _word word",
    "<<<<< <<x <<< <",
    "a" * 200,
    "ab" * 150 + "=" * 75 + " " * 50 + "x",
    "\U0010ffff\ufffe\ue000 private",
    "Ａ half… “quoted” soft\u00adhyphen e\u0301e\u0301 \u1ec7 \u0071\u0307\u0323 ﬁ İ Σς",
    "a-b--c;d,,e.==f===g x</s>y<b>z<unk> </s> <s>",
    "   three\n\n\nlines    and  blanks   ",
]
