"""Makes tests/golden/chat/: templates of our own and what Python's jinja2 renders from them.

    apt-get install python3-jinja2
    python3 tests/golden/make_chat_golden.py

The environment is that of transformers: sandboxed, trim_blocks, lstrip_blocks, loop controls, its
tojson, raise_exception, strftime_now and the generation block. The templates use the constructs of
the templates of Llama 3, Mistral, Granite, Qwen 2 and 3, Phi-3, Gemma 3 and SmolLM2; the texts are
ours. cases.json lists, for each template, conversations with the text or "error".
"""

import datetime
import json
import pathlib
import random

import jinja2
import jinja2.ext
import jinja2.nodes
import jinja2.sandbox

HERE = pathlib.Path(__file__).parent / "chat"
NOW = 1718000000  # seconds since 1970

TEMPLATES = {}
TEMPLATES["chatml"] = """\
{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system
You are helpful.<|im_end|>
' }}{% endif %}{{'<|im_start|>' + message['role'] + '
' + message['content'] + '<|im_end|>' + '
'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant
' }}{% endif %}
"""
TEMPLATES["headers"] = """\
{{- bos_token }}
{%- if custom_tools is defined %}
    {%- set tools = custom_tools %}
{%- endif %}
{%- if not date_string is defined %}
    {%- if strftime_now is defined %}
        {%- set date_string = strftime_now("%d %b %Y") %}
    {%- else %}
        {%- set date_string = "26 Jul 2024" %}
    {%- endif %}
{%- endif %}
{%- if not tools is defined %}
    {%- set tools = none %}
{%- endif %}
{#- The system text comes first. #}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\\n\\n" }}
{%- if tools is not none %}
    {{- "Environment: ipython\\n" }}
{%- endif %}
{{- "Today: " + date_string + "\\n\\n" }}
{%- if tools is not none %}
    {%- for t in tools %}
        {{- t | tojson(indent=4) }}
        {{- "\\n\\n" }}
    {%- endfor %}
{%- endif %}
{{- system_message }}
{{- "<|eot_id|>" }}
{%- for message in messages %}
    {%- if not (message.role == 'ipython' or message.role == 'tool' or 'tool_calls' in message) %}
        {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'+ message['content'] | trim + '<|eot_id|>' }}
    {%- elif 'tool_calls' in message %}
        {%- if not message.tool_calls|length == 1 %}
            {{- raise_exception("Only one call at a time!") }}
        {%- endif %}
        {%- set tool_call = message.tool_calls[0].function %}
        {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' -}}
        {{- '{"name": "' + tool_call.name + '", ' }}
        {{- '"parameters": ' }}
        {{- tool_call.arguments | tojson }}
        {{- "}" }}
        {{- "<|eot_id|>" }}
    {%- elif message.role == "tool" or message.role == "ipython" %}
        {{- "<|start_header_id|>ipython<|end_header_id|>\\n\\n" }}
        {%- if message.content is mapping or message.content is iterable %}
            {{- message.content | tojson }}
        {%- else %}
            {{- message.content }}
        {%- endif %}
        {{- "<|eot_id|>" }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
"""
TEMPLATES["thinking"] = """\
{%- if tools %}
    {{- '<|im_start|>system\\n' }}
    {%- if messages[0].role == 'system' %}
        {{- messages[0].content + '\\n\\n' }}
    {%- endif %}
    {{- "# Tools\\n\\n<tools>" }}
    {%- for tool in tools %}
        {{- "\\n" }}
        {{- tool | tojson }}
    {%- endfor %}
    {{- "\\n</tools><|im_end|>\\n" }}
{%- else %}
    {%- if messages[0].role == 'system' %}
        {{- '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}
    {%- endif %}
{%- endif %}
{%- set ns = namespace(multi_step_tool=true, last_query_index=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.multi_step_tool and message.role == "user" and message.content is string and not(message.content.startswith('<tool_response>') and message.content.endswith('</tool_response>')) %}
        {%- set ns.multi_step_tool = false %}
        {%- set ns.last_query_index = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if message.content is string %}
        {%- set content = message.content %}
    {%- else %}
        {%- set content = '' %}
    {%- endif %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) %}
        {{- '<|im_start|>' + message.role + '\\n' + content + '<|im_end|>' + '\\n' }}
    {%- elif message.role == "assistant" %}
        {%- set reasoning_content = '' %}
        {%- if message.reasoning_content is string %}
            {%- set reasoning_content = message.reasoning_content %}
        {%- else %}
            {%- if '</think>' in content %}
                {%- set reasoning_content = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}
                {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
            {%- endif %}
        {%- endif %}
        {%- if loop.index0 > ns.last_query_index %}
            {%- if loop.last or (not loop.last and reasoning_content) %}
                {{- '<|im_start|>' + message.role + '\\n<think>\\n' + reasoning_content.strip('\\n') + '\\n</think>\\n\\n' + content.lstrip('\\n') }}
            {%- else %}
                {{- '<|im_start|>' + message.role + '\\n' + content }}
            {%- endif %}
        {%- else %}
            {{- '<|im_start|>' + message.role + '\\n' + content }}
        {%- endif %}
        {%- if message.tool_calls %}
            {%- for tool_call in message.tool_calls %}
                {%- if (loop.first and content) or (not loop.first) %}
                    {{- '\\n' }}
                {%- endif %}
                {%- if tool_call.function %}
                    {%- set tool_call = tool_call.function %}
                {%- endif %}
                {{- '<tool_call>\\n{"name": "' }}
                {{- tool_call.name }}
                {{- '", "arguments": ' }}
                {%- if tool_call.arguments is string %}
                    {{- tool_call.arguments }}
                {%- else %}
                    {{- tool_call.arguments | tojson }}
                {%- endif %}
                {{- '}\\n</tool_call>' }}
            {%- endfor %}
        {%- endif %}
        {{- '<|im_end|>\\n' }}
    {%- elif message.role == "tool" %}
        {%- if loop.first or (messages[loop.index0 - 1].role != "tool") %}
            {{- '<|im_start|>user' }}
        {%- endif %}
        {{- '\\n<tool_response>\\n' }}
        {{- content }}
        {{- '\\n</tool_response>' }}
        {%- if loop.last or (messages[loop.index0 + 1].role != "tool") %}
            {{- '<|im_end|>\\n' }}
        {%- endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\\n\\n</think>\\n\\n' }}
    {%- endif %}
{%- endif %}
"""
TEMPLATES["turns"] = """\
{{ bos_token }}
{%- if messages[0]['role'] == 'system' -%}
    {%- if messages[0]['content'] is string -%}
        {%- set first_user_prefix = messages[0]['content'] + '

' -%}
    {%- else -%}
        {%- set first_user_prefix = messages[0]['content'][0]['text'] + '

' -%}
    {%- endif -%}
    {%- set loop_messages = messages[1:] -%}
{%- else -%}
    {%- set first_user_prefix = "" -%}
    {%- set loop_messages = messages -%}
{%- endif -%}
{%- for message in loop_messages -%}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) -%}
        {{ raise_exception("Conversation roles must alternate user/assistant/user/assistant/...") }}
    {%- endif -%}
    {%- if (message['role'] == 'assistant') -%}
        {%- set role = "model" -%}
    {%- else -%}
        {%- set role = message['role'] -%}
    {%- endif -%}
    {{ '<start_of_turn>' + role + '
' + (first_user_prefix if loop.first else "") }}
    {%- if message['content'] is string -%}
        {{ message['content'] | trim }}
    {%- elif message['content'] is iterable -%}
        {%- for item in message['content'] -%}
            {%- if item['type'] == 'image' -%}
                {{ '<start_of_image>' }}
            {%- elif item['type'] == 'text' -%}
                {{ item['text'] | trim }}
            {%- endif -%}
        {%- endfor -%}
    {%- else -%}
        {{ raise_exception("Invalid content type") }}
    {%- endif -%}
    {{ '<end_of_turn>
' }}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{'<start_of_turn>model
'}}
{%- endif -%}
"""
TEMPLATES["roles"] = """\
{%- if messages[0]['role'] == 'system' %}
     {%- set system_message = messages[0]['content'] %}
     {%- set loop_messages = messages[1:] %}
 {%- else %}
     {%- set system_message = "Knowledge: April 2024.\\nToday: " + strftime_now('%B %d, %Y') + "." %}
     {%- if tools and documents %}
         {%- set system_message = system_message + " Tools and documents." %}
     {%- elif tools %}
         {%- set system_message = system_message + " Tools." %}
     {%- endif %}
     {%- set loop_messages = messages %}
 {%- endif %}
 {{- '<|start_of_role|>system<|end_of_role|>' + system_message + '<|end_of_text|>\\n' }}
 {%- if tools %}
     {{- '<|start_of_role|>tools<|end_of_role|>' }}
     {{- tools | tojson(indent=4) }}
     {{- '<|end_of_text|>\\n' }}
 {%- endif %}
 {%- if documents %}
     {{- '<|start_of_role|>documents<|end_of_role|>' }}
     {%- for document in documents %}
         {{- 'Document ' + loop.index0 | string + '\\n' }}
         {{- document['text'] }}
         {%- if not loop.last %}
              {{- '\\n\\n'}}
         {%- endif%}
     {%- endfor %}
     {{- '<|end_of_text|>\\n' }}
 {%- endif %}
 {%- for message in loop_messages %}
     {%- if message.content is string %}{% generation %}
     {{- '<|start_of_role|>' + message['role'] + '<|end_of_role|>' + message['content'] + '<|end_of_text|>\\n' }}
     {%- endgeneration %}{% endif %}
     {%- if loop.last and add_generation_prompt %}
         {{- '<|start_of_role|>assistant' }}
             {%- if controls %}
                 {{- ' ' + controls | tojson() }}
             {%- endif %}
         {{- '<|end_of_role|>' }}
     {%- endif %}
 {%- endfor %}
"""
TEMPLATES["plain"] = """\
{% for message in messages %}{% if message['role'] == 'system' and message['content'] %}{{'<|system|>\\n' + message['content'] + '<|end|>\\n'}}{% elif message['role'] == 'user' %}{{'<|' + message['role'] + '|>\\n' + message['content'] | string + '<|end|>\\n'}}{% elif message['role'] == 'assistant' %}{{'<|assistant|>\\n' + message['content'] | string + '<|end|>\\n'}}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% else %}{{ eos_token }}{% endif %}
"""
TEMPLATES["schema"] = """\
{%- macro type_of(spec) -%}
  {%- set names = {"string": "str", "number": "float", "integer": "int"} -%}
  {%- if spec.type == "array" -%}
    {{- "list[" + type_of(spec["items"]) + "]" }}
  {%- elif spec.type == "object" -%}
    {%- if spec.properties is defined -%}
      {{- "{" }}{% for key, value in spec.properties.items() %}{{ key }}{{ "" if key in (spec.required or []) else "?" }}: {{ type_of(value) }}{{ ", " if not loop.last }}{% endfor %}{{- "}" }}
    {%- else -%}
      dict
    {%- endif -%}
  {%- elif spec.enum -%}
    {{- spec.enum | map("tojson") | join(" | ") -}}
  {%- else -%}
    {{- names.get(spec.type, spec.type | default("any", true)) -}}
  {%- endif -%}
{%- endmacro -%}
{%- macro show(tool, level=1) -%}
{{ "  " * level }}{{ tool.function.name }}({{ type_of(tool.function.parameters) }})
{%- endmacro -%}
{% for tool in tools or [] %}
{{ show(tool, level=2) }}  // {{ tool.function.description | default("none") | upper | replace("E", "3") }}
{% else %}
no tools
{% endfor %}
{% set ns = namespace(found=false, names=[]) %}
{% for m in messages if m.role != "system" %}
{% if m.content is none or m.content is not string %}{% continue %}{% endif %}
{% set ns.names = ns.names + [m.role] %}
{{ loop.index }}/{{ loop.length }} {{ loop.revindex0 }} {{ loop.cycle("odd", "even") }} {{ m.role.title() }}: {{ m.content[:12] }}|{{ m.content[-3:] }}|{{ m.content | length }}
{% if loop.index >= 6 %}{% break %}{% endif %}
{% endfor %}
{{ ns.names | unique | sort(reverse=true) | join(", ") }} {{ ns.names | length }}
{% set block | trim | upper %}
  {{ messages | selectattr("role", "equalto", "user") | map(attribute="role") | list }}
{% endset %}
{{ block }} {{ messages[-1].role ~ 1 ~ none ~ 2.50 ~ true }} {{ (1, 2)[0] + 7 // 2 + 2 ** 3 - 7 % 3 }} {{ 7 / 2 }} {{ 1e20 }} {{ -7 // 2 }} {{ 1 < 2 < 3 }} {{ [1, [2, "a'b"], {"k": none}] }}
{% call(x) wrap("w") %}inner {{ x }}{% endcall %}
{%+ if true %}kept{% endif +%}

{% raw %}{{ raw }} {% endraw %}
{% filter upper %}filtered {{ bos_token }}{% endfilter %}
{{ messages | length is odd }} {{ messages is sequence }} {{ none is none }} {{ undefined_name is defined }} {{ undefined_name }}
{{ "%s-%03d" | format("a", 7) }} {{ "{} {x}".format(1, x=2) }} {{ "a,b,,c".split(",") }} {{ " a b ".split() }} {{ [3, 1, 2] | sort | last }} {{ [1, 2, 3, 4, 5] | batch(2) | list }} {{ {"b": 1, "a": 2} | dictsort }} {{ "x" in {"x": 1} }} {{ [1, 2] | sum }} {{ 3.7 | int }} {{ 2.5 | round }} {{ "hello world" | title | indent(2) }}
"""
TEMPLATES["schema"] = """{% macro wrap(x) %}<{{ x }}:{{ caller(x ~ "!") }}>{% endmacro %}
""" + TEMPLATES["schema"]


class Generation(jinja2.ext.Extension):
    """{% generation %}...{% endgeneration %} emits its body."""

    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return jinja2.nodes.Scope(body, lineno=line)


def environment():
    def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators,
                          sort_keys=sort_keys)

    def raise_exception(message):
        raise jinja2.exceptions.TemplateError(message)

    made = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[jinja2.ext.loopcontrols, Generation])
    made.filters["tojson"] = tojson
    made.globals["raise_exception"] = raise_exception
    made.globals["strftime_now"] = lambda form: datetime.datetime.fromtimestamp(NOW).strftime(form)
    return made


def render(template, conversation):
    """The text, or "error"."""
    given = {"tools": None, "documents": None, "add_generation_prompt": True,
             "bos_token": "<s>", "eos_token": "</s>", **conversation}
    given.pop("now", None)
    try:
        return {"text": environment().from_string(template).render(**given)}
    except Exception:
        return {"error": True}


WORDS = ["hello", "what's", "Größe", "数字", "🙂", " ", "\n", "  trailing ", "<|im_end|>", "</s>",
         "</think>", "<think>", '"quoted"', "back\\slash", "\t", "{{ not a template }}", "é", "É",
         "\u2028", "\u00a0", "1.5", "", "a" * 30, "<tool_response>", "</tool_response>", "{%", "'"]


def words(choose):
    return "".join(choose.choice(WORDS) for _ in range(choose.randrange(7)))


def schema(choose, depth=0):
    kind = choose.choice(["string", "number", "array", "object", "enum", None][: 6 if depth < 2 else 2])
    if kind == "array":
        return {"type": "array", "items": schema(choose, depth + 1)}
    if kind == "object":
        names = choose.sample(["zeta", "alpha", "größe", "b"], choose.randrange(4))
        return {"type": "object", "properties": {n: schema(choose, depth + 1) for n in names},
                "required": names[:1]}
    if kind == "enum":
        return {"enum": [words(choose), 3, None, 2.5, True]}
    return {"type": kind, "description": words(choose)} if kind else {}


def conversation(choose):
    messages = [{"role": "system", "content": words(choose)}] if choose.random() < 0.5 else []
    for turn in range(choose.randrange(1, 6)):
        role = ("user", "assistant")[turn % 2]
        if choose.random() < 0.1:
            role = choose.choice(["tool", "user", "assistant"])
        message = {"role": role, "content": words(choose)}
        if role == "assistant" and choose.random() < 0.4:
            call = {"name": "f", "arguments": {"x": words(choose), "n": choose.choice([1, 2.0, 1e-7])}}
            message["tool_calls"] = [{"type": "function", "function": call}] * choose.randrange(1, 3)
            if choose.random() < 0.3:
                message["content"] = None
        if role == "user" and choose.random() < 0.15:
            message["content"] = [{"type": "text", "text": words(choose)}, {"type": "image"}]
        if role == "assistant" and choose.random() < 0.2:
            message["reasoning_content"] = words(choose)
        messages.append(message)
    made = {"messages": messages, "now": NOW, "add_generation_prompt": choose.random() < 0.7}
    if choose.random() < 0.4:
        made["tools"] = [{"type": "function", "function": {
            "name": f"tool_{n}", "description": words(choose), "parameters": schema(choose)}}
            for n in range(choose.randrange(3))]
    if choose.random() < 0.2:
        made["documents"] = [{"text": words(choose)} for _ in range(2)]
    if choose.random() < 0.3:
        made["enable_thinking"] = choose.random() < 0.5
    if choose.random() < 0.2:
        made["controls"] = {"length": "short", "ü": [1, {}]}
    return made


def main():
    HERE.mkdir(exist_ok=True)
    choose = random.Random(4)
    cases = []
    for name, template in TEMPLATES.items():
        (HERE / f"{name}.jinja").write_text(template)
        for _ in range(12):
            given = conversation(choose)
            cases.append({"template": name, "conversation": given, **render(template, given)})
    lines = ",\n".join(json.dumps(case) for case in cases)
    (HERE / "cases.json").write_text(f"[\n{lines}\n]\n")


if __name__ == "__main__":
    main()
