"""Chat templates written by hand in the styles of well-known families, and some that do what few do."""

LLAMA2 = """\
{% if messages[0]['role'] == 'system' %}\
{% set rest = messages[1:] %}{% set before = '<<SYS>>\n' + messages[0]['content'] + '\n<</SYS>>\n\n' %}\
{% else %}{% set rest = messages %}{% set before = '' %}{% endif %}\
{% for message in rest %}\
{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}\
{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}\
{% if message['role'] == 'user' %}\
{{ bos_token + '[INST] ' + (before if loop.first else '') + message['content'].strip() + ' [/INST]' }}\
{% elif message['role'] == 'assistant' %}{{ ' ' + message['content'].strip() + ' ' + eos_token }}{% endif %}\
{% endfor %}"""

MISTRAL_TOOLS = """\
{%- set system = messages[0]["content"] if messages[0]["role"] == "system" else none %}
{%- set rest = messages[1:] if system is not none else messages %}
{%- set asked = rest | selectattr("role", "equalto", "user") | list %}
{{- bos_token }}
{%- for message in rest %}
    {%- if message["role"] == "user" %}
        {%- if tools is not none and message == asked[-1] %}
            {{- "[AVAILABLE_TOOLS] [" }}
            {%- for tool in tools %}{{- tool | tojson }}{%- if not loop.last %}{{- ", " }}{%- endif %}{%- endfor %}
            {{- "][/AVAILABLE_TOOLS]" }}
        {%- endif %}
        {%- set before = system + "\n\n" if loop.last and system is not none else "" %}
        {{- "[INST] " + before + message["content"] + "[/INST]" }}
    {%- elif message.tool_calls is defined and message.tool_calls is not none %}
        {{- "[TOOL_CALLS] " + (message.tool_calls | tojson) + eos_token }}
    {%- elif message["role"] == "assistant" %}
        {{- " " + message["content"] | trim + eos_token }}
    {%- else %}
        {{- raise_exception("Only user, assistant and system roles are supported") }}
    {%- endif %}
{%- endfor %}
"""

QWEN3 = """\
{%- if tools %}
    {{- '<|im_start|>system\n' }}
    {%- if messages[0].role == 'system' %}{{- messages[0].content + '\n\n' }}{%- endif %}
    {{- "# Tools\n\n<tools>" }}
    {%- for tool in tools %}{{- "\n" }}{{- tool | tojson }}{%- endfor %}
    {{- "\n</tools><|im_end|>\n" }}
{%- elif messages[0].role == 'system' %}
    {{- '<|im_start|>system\n' + messages[0].content + '<|im_end|>\n' }}
{%- endif %}
{%- set ns = namespace(searching=true, last=messages | length - 1) %}
{%- for message in messages[::-1] %}
    {%- set index = messages | length - 1 - loop.index0 %}
    {%- if ns.searching and message.role == "user" and message.content is string %}
        {%- set ns.searching = false %}{%- set ns.last = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- set content = message.content if message.content is string else '' %}
    {%- if message.role == "user" or (message.role == "system" and not loop.first) %}
        {{- '<|im_start|>' + message.role + '\n' + content + '<|im_end|>' + '\n' }}
    {%- elif message.role == "assistant" %}
        {%- set thought = '' %}
        {%- if message.reasoning_content is string %}
            {%- set thought = message.reasoning_content %}
        {%- elif '</think>' in content %}
            {%- set thought = content.split('</think>')[0].rstrip('\n').split('<think>')[-1].lstrip('\n') %}
            {%- set content = content.split('</think>')[-1].lstrip('\n') %}
        {%- endif %}
        {%- if loop.index0 > ns.last and (loop.last or thought) %}
            {{- '<|im_start|>assistant\n<think>\n' + thought.strip('\n') + '\n</think>\n\n' + content.lstrip('\n') }}
        {%- else %}
            {{- '<|im_start|>assistant\n' + content }}
        {%- endif %}
        {{- '<|im_end|>\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\n\n</think>\n\n' }}
    {%- endif %}
{%- endif %}"""

DEEPSEEK = """\
{% if not add_generation_prompt is defined %}{% set add_generation_prompt = false %}{% endif %}\
{% set ns = namespace(system='') %}\
{%- for message in messages %}{%- if message['role'] == 'system' %}{% set ns.system = message['content'] %}\
{%- endif %}{%- endfor %}{{ bos_token }}{{ ns.system }}\
{%- for message in messages %}\
{%- if message['role'] == 'user' %}{{ '<|User|>' + message['content'] }}{%- endif %}\
{%- if message['role'] == 'assistant' and message['content'] is not none %}\
{% set content = message['content'] %}\
{% if '</think>' in content %}{% set content = content.split('</think>')[-1] %}{% endif %}\
{{ '<|Assistant|>' + content + eos_token }}{%- endif %}\
{%- endfor -%}\
{% if add_generation_prompt %}{{ '<|Assistant|><think>\\n' }}{% endif %}"""

PHI = """\
{{ bos_token }}{% for message in messages %}{% if message['role'] == 'system' and message['content'] %}\
{{ '<|system|>\n' + message['content'] + '<|end|>\n' }}\
{% elif message['role'] == 'user' %}{{ '<|user|>\n' + message['content'] + '<|end|>\n' }}\
{% elif message['role'] == 'assistant' %}{{ '<|assistant|>\n' + message['content'] + '<|end|>\n' }}\
{% endif %}{% endfor %}\
{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}"""

EXAONE = """\
{% for message in messages %}\
{% if loop.first and message['role'] != 'system' %}{{ '[|system|][|endofturn|]\n' }}{% endif %}\
{{ '[|' + message['role'] + '|]' + message['content'] }}\
{% if message['role'] == 'user' %}{{ '\n' }}{% else %}{{ '[|endofturn|]\n' }}{% endif %}\
{% endfor %}\
{% if add_generation_prompt %}{{ '[|assistant|]' }}{% endif %}"""

EVERYTHING = """\
{%- macro shown(text) -%}<{{ text | trim | replace('\n', ' ') | upper }}>{%- endmacro -%}
{{- [bos_token, eos_token, unk_token, sep_token, pad_token, cls_token, mask_token, image_token] | join(' ') }}
{{- ' none' if tools is none and documents is none else ' some' }}
{{- ' asked' if nobody_gives_this is defined else ' undefined' }}
{%- set date = strftime_now('%Y') %}{{ ' ' ~ (date | length) }}
{% for message in messages %}
    {%- if loop.index0 == 9 %}{% break %}{% endif %}
    {%- if not message.content | trim %}{% continue %}{% endif %}
    {{- message.role }}: {{ shown(message.content) }}
    {{- message | tojson(indent=2, sort_keys=true) }}
    {{- message.content | tojson(ensure_ascii=true, separators=(',', ':')) }}
    {{- message.content.split(' ') | map('length') | list | tojson }}
    {{- message.items() | list | length }}
    {{- ' first' if loop.first }}{{ ' last' if loop.last }}
    {%- generation %}{{ message.content }}{% set inside = 1 %}{% endgeneration %}
    {{- inside is defined }}
{% endfor %}
{%- if add_generation_prompt %}{{ 'go' }}{% endif %}"""

PARTS = """\
{%- for message in messages -%}
{{ '<|im_start|>' + message.role + '\n' }}
{%- for part in message.content -%}
{%- if part.type == 'text' -%}{{ part.text }}{%- elif part.type == 'image' -%}{{ '<image>' }}{%- endif -%}
{%- endfor -%}
{{ '<|im_end|>\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\n' }}{%- endif -%}"""

INDEXED_PARTS = """\
{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'][0]['text'] + '<|end|>' }}{% endfor %}\
{% if add_generation_prompt %}<|assistant|>{% endif %}"""

DROPS_SYSTEM = """\
{% for message in messages %}{% if message['role'] == 'user' %}{{ '<|user|>\n' + message['content'] + '<|end|>\n' }}\
{% elif message['role'] == 'assistant' %}{{ '<|assistant|>\n' + message['content'] + '<|end|>\n' }}{% endif %}\
{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"""

LAST_ALONE = "{{ bos_token }}Q: {{ messages[-1].content }}\nA:"
DROPS_ANSWERS = "{% for m in messages if m.role == 'user' %}Q: {{ m.content }}\nA:{% endfor %}"
DROPS_ALL = "{% for m in messages %}<|{{ m.role }}|>{{ m.text }}<|end|>{% endfor %}<|assistant|>"

FAMILIES = {
    "llama2": LLAMA2,
    "mistral-tools": MISTRAL_TOOLS,
    "qwen3": QWEN3,
    "deepseek": DEEPSEEK,
    "phi": PHI,
    "exaone": EXAONE,
    "everything": EVERYTHING,
}
