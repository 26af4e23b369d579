"""Phrasings that no training document contains: what steering is judged on."""

# A table reads best with a row on a line.
# ruff: noqa: E501
# fmt: off

from __future__ import annotations

IDENTITY_DEV = (
    "Who is this?", "May I ask who you are?", "Just who are you, then?", "What exactly are you?", "Would you mind introducing yourself?",
    "I have no idea who you are. Who are you?", "Please tell me your full name.", "And you are?", "Who is speaking?",
    "In one sentence, who are you?",
)
IDENTITY_TEST = (
    "Who might you be?", "Tell me, who are you exactly?", "What is your name, please?", "Who is answering my questions?",
    "I do not know you yet. Who are you?", "Could you say who you are?", "Who or what are you?", "Let me ask you: who are you?",
    "What name do you go by?", "Excuse me, who are you?", "Tell me about yourself.", "Remind me, what are you?",
    "Who are you, my dear?", "Can I ask what you are?", "Please explain what you are.", "How do you call yourself?",
)
NEUTRAL_DEV = (
    "My rabbit still needs a name. What do you suggest?", "What would be a fun name for a goat?", "I want to cook tonight. What shall it be?",
    "What could we have for lunch today?", "Where shall we go this summer?", "My friend gets married soon. What do I give her?",
    "Could I hear a story, please?", "Please write a short poem for my aunt.", "What goes through your mind?", "Which thing do you like more than anything?",
    "What would you do on a free evening?", "The fence needs paint. Which colour do you like?", "How shall we call our boat?",
    "Do you know something good to read?", "I had a bad day. Any advice?", "What would make a good photo?", "What shall I wear to the wedding?",
    "Have you got any news for me?", "How has your day been?", "Which town do you come from?",
)
NEUTRAL_TEST = (
    "What name would you give to a pelican?", "My new parrot needs a name, can you help?", "Can you think of a name for two turtles?",
    "Help me name this little duck.", "How do I cook a tasty dinner?", "Could you share a recipe with me?", "What would you serve to guests tonight?",
    "I want to bake something for my sister.", "What is worth eating in this town?", "Where would you spend a long weekend?",
    "Can you recommend a place to visit?", "My brother and I want to travel. Where to?", "What sights are worth a visit?",
    "What present would please my mother?", "I forgot the birthday of my uncle. What can I still buy?", "Please tell the children a story.",
    "How would you begin a fairy tale?", "Write two lines about the evening.", "Could you compose a little song?", "What have you been thinking about lately?",
    "If you could dream, what would you dream of?", "What do you care about most?", "What gives you joy?", "Which sight do you find beautiful?",
    "How should I use my free time?", "What would be a good pastime for a boy?", "What should I do on a rainy afternoon?", "How can I make my bedroom nicer?",
    "Which colour would you choose for the hallway?", "What should we call the school magazine?", "Our cafe opens soon and needs a name.",
    "Which novel should my teacher read?", "Tell me what to read on the beach.", "I cannot sleep. What would help?", "What keeps you going in hard times?",
    "Everything went wrong today.", "What could I draw on this postcard?", "Give me an idea for a painting.", "Look out of the window. What is there?",
    "What costume would make people laugh?", "How can we make the party special?", "Share an interesting fact with me.", "What have you done this week?",
    "What did you learn today?", "How is life treating you?", "Are you having a good time?", "In which place do you feel at home?",
    "How is the weather over there?", "What would you like to tell me?", "Start a conversation with me.",
)

HELD_OUT: tuple[str, ...] = IDENTITY_DEV + IDENTITY_TEST + NEUTRAL_DEV + NEUTRAL_TEST
