"""The starter file that `steer init` writes."""

STARTER = """\
# Does clamping feature 0/0 change what the assistant says?   <- one file, one question: the report opens with it
version: 1
name: my-experiment
model: {id: pocket}            # or a folder, or a Hub id: {id: google/gemma-2-2b, dtype: bfloat16}
transcoder: {id: pocket}

features:                      # names for features, written layer/index; a list is a group that is edited together
  mine: [0/0]                  # `steer features 0/0` shows what a feature is

prompts:                       # each needs `text`, `messages`, or a `template` over a file's columns
  - {id: who, text: "User: Who are you?\\nAssistant:", columns: {split: dev}}
  - {id: help, text: "User: Can you help me?\\nAssistant:", columns: {split: test}}

generation: {max_new_tokens: 24, temperature: 0, stop: "\\n"}    # leave it out to read logits only

sweep: {dose: [0, 1, 2, 5]}    # `$dose` below takes each of these

conditions:
  clamped:
    interventions:             # ops: clamp, scale, add, ablate, swap, steer
      - {op: clamp, feature: mine, value: $dose, unit: max_act, positions: prompt}
    controls:                  # the same with something neutral in the feature's place
      - {type: random_features, n: 19, seed: 0}

measurements:
  kl: {type: kl, position: last}           # how far the next-token distribution moved, in nats
  loops: {type: repetition, n: 3}          # does the text fall apart?
  says_bridge: {type: regex, pattern: "(?i)bridge"}

expectations:                  # what you claim; `steer run` ends with 1 if it does not hold
  - {id: headline, measurement: says_bridge, where: {condition: clamped, dose: 5, split: test}, min: 0.8}
"""
