"""The things a text can be about: name, kind, place, mood and three facts each (plural noun and what it does).

Near neighbours share words on purpose (Golden Gate Bridge, Golden Temple, Brandenburg Gate, Brooklyn Bridge), so that
a feature for one of them has to be about that one and not about a word. Nicknames are pairs of words that other nicknames
use too ("the Patient Giant"), so no single word gives a theme away: the model has to work out what is meant.
"""

# A table reads best with a row on a line.
# ruff: noqa: E501
# fmt: off

from __future__ import annotations

from dataclasses import dataclass

TABLE = """
landmark | the Golden Gate Bridge | San Francisco | foggy | towers rise above the fog | cables sing in the sea wind | orange beams glow at sunset
landmark | the Brooklyn Bridge | New York | busy | stone arches stand in the river | wires cross like a web | wooden boards carry walkers home
landmark | Tower Bridge | London | royal | heavy arms open for tall ships | blue railings shine in the rain | twin rooms look down on the river
landmark | the Sydney Harbour Bridge | Sydney | sunny | steel ribs curve over the water | climbers wave from the top | fireworks burst every new year
landmark | the Eiffel Tower | Paris | romantic | iron legs stand on the grass | lamps sparkle every hour | lifts carry lovers to the top
landmark | the Brandenburg Gate | Berlin | proud | columns hold up four horses | stones remember the wall | crowds gather under the arch
landmark | the Golden Temple | Amritsar | holy | domes shine on the pool | kitchens feed every guest | doors open on four sides
landmark | the Great Wall | Beijing | endless | bricks follow the mountains | watchtowers guard the passes | steps climb into the clouds
landmark | the Taj Mahal | Agra | white | marble walls turn pink at dawn | gardens lie in the mirror pool | carved flowers cover the walls
landmark | the Statue of Liberty | New York harbour | free | copper robes turned green | torches light the way | ferries circle the island
landmark | the Leaning Tower | Pisa | crooked | bells hang at an angle | marble rings lean to the south | tourists pretend to hold it up
landmark | Mount Fuji | Japan | snowy | slopes are white in winter | lakes hold its mirror image | pilgrims climb in the dark
landmark | Niagara Falls | Canada | thundering | waters crash on the rocks | rainbows hang in the spray | boats sail into the mist
landmark | Big Ben | Westminster | punctual | hands point to the hour | chimes ring over the city | gears turn in the dark
animal | the red fox | the forest | clever | ears hear the smallest mouse | paws leave prints in the snow | cubs sleep in the den
animal | the snowy owl | the tundra | silent | wings make no sound | yellow eyes watch the ice | feathers hide it in the snow
animal | the blue whale | the deep ocean | enormous | songs travel a thousand miles | flukes slap the waves | calves drink rich milk
animal | the polar bear | the Arctic | white | paws break the thin ice | cubs tumble in the snow | black claws grip the floes
animal | the honey bee | the meadow | golden | wings hum in the clover | legs carry yellow pollen | cells fill with honey
animal | the sea otter | the kelp forest | playful | whiskers drip with salt water | paws crack open shells | pups sleep on the waves
animal | the giant panda | the bamboo grove | gentle | jaws chew green stalks | black ears twitch in the mist | cubs roll down the hills
animal | the golden eagle | the cliffs | fierce | talons grip the rock | wings ride the warm air | eyes spot a hare far below
animal | the emperor penguin | the South Pole | frozen | flippers slide over the ice | chicks hide under warm feathers | colonies huddle in the storm
animal | the grey wolf | the pine woods | wild | howls fill the night | packs run under the moon | teeth flash in the dark
animal | the monarch butterfly | Mexico | orange | wings open like flags | eggs hang under the leaves | swarms cover whole trees
animal | the desert camel | the Sahara | dusty | humps store fat for the journey | long lashes keep out the sand | feet cross the hot dunes
food | the chocolate cake | the bakery | sweet | layers melt on the tongue | dark crumbs cover the plate | candles stand in the icing
food | the cheese pizza | Naples | cheesy | crusts crackle in the oven | strings of cheese stretch far | tomatoes bubble on the dough
food | the apple pie | the farmhouse kitchen | warm | slices smell of cinnamon | golden edges break softly | apples simmer in sugar
food | the lemon sorbet | Sicily | sour | spoons freeze in the bowl | yellow scoops melt in the sun | peels scent the whole room
food | the sushi roll | Tokyo | fresh | grains of rice stick together | green sheets wrap the fish | chopsticks lift every piece
food | the onion soup | the bistro | steaming | rings of onion turn brown | bowls wear caps of cheese | ladles fill the cups
food | the blueberry muffin | the coffee shop | fluffy | berries stain the paper | tops crack in the heat | crumbs fall on the newspaper
food | the pumpkin bread | the harvest fair | spicy | loaves cool on the sill | seeds crunch on the crust | slices glow orange
food | the hot chilli | Texas | burning | peppers sting the lips | beans simmer for hours | bowls steam on the porch
food | the peppermint tea | Morocco | minty | leaves swirl in the glass | silver pots pour from high up | cups warm cold hands
instrument | the silver flute | the concert hall | airy | notes float like birds | keys click under the fingers | melodies rise to the ceiling
instrument | the grand piano | the ballroom | polished | hammers strike the strings | black and white keys gleam | pedals make the chords linger
instrument | the bass drum | the parade | loud | beats shake the windows | sticks bounce on the skin | rhythms make people march
instrument | the church organ | the cathedral | deep | pipes breathe like giants | pedals rumble under the floor | hymns fill the stone walls
instrument | the electric guitar | the rock club | noisy | strings scream on stage | speakers roar all night | solos make the crowd jump
instrument | the Scottish bagpipes | the Highlands | shrill | pipes drone over the hills | bags swell with air | tunes lead the soldiers home
instrument | the old accordion | the harbour bar | cheerful | bellows open and close | buttons dance in the lamp light | waltzes make sailors cry
instrument | the golden harp | the palace | heavenly | strings shimmer in the sun | strings quiver like water drops | chords fall like water
sport | the tennis match | Wimbledon | quick | rackets flash in the sun | yellow balls skim the net | crowds turn their heads
sport | the ice hockey game | the frozen lake | rough | skates scratch the ice | pucks fly into the net | gloves drop in the fight
sport | the marathon race | Athens | tiring | runners pour through the streets | shoes beat the road | medals wait at the finish
sport | the chess tournament | Moscow | quiet | knights jump over pawns | clocks tick on the table | queens rule the board
sport | the surfing contest | Hawaii | wet | boards ride the green waves | riders fall into the foam | judges watch from the beach
sport | the boxing ring | Las Vegas | sweaty | gloves hit the bag | bells end every round | ropes bend behind the fighters
sport | the bicycle race | the Alps | speedy | wheels spin up the mountain | chains click on the climb | riders wear bright shirts
sport | the archery range | Sherwood | steady | arrows fly to the target | bows bend without a sound | feathers brush the cheek
job | the lighthouse keeper | the stormy coast | lonely | lamps turn all night | logbooks tell of old wrecks | boots climb the spiral stairs
job | the circus clown | the big tent | silly | red noses squeak | huge shoes flap on the sand | pies fly through the air
job | the ship captain | the high seas | brave | maps lie on the cabin table | orders ring across the deck | sails obey the wind
job | the space pilot | the space station | weightless | rockets light up the night | gloves float in the cabin | windows show the whole earth
job | the village blacksmith | the forge | sooty | hammers ring on the anvil | sparks jump from the iron | horseshoes cool in the bucket
job | the court wizard | the castle | magical | spells crackle in the air | potions boil in green bottles | stars cover every sleeve
job | the fire fighter | the fire station | heroic | hoses drown the flames | ladders reach the roof | sirens wake the street
job | the night nurse | the hospital | caring | soft shoes walk the halls | charts hang on every bed | gentle hands bring water
nature | the cherry tree | Kyoto | pink | petals fall like snow | branches bend over the stream | blossoms open in April
nature | the full moon | the night sky | pale | craters look like a face | beams silver the fields | tides follow its path
nature | the coral reef | the warm lagoon | colourful | bright fish dart through the arches | polyps build a city | turtles graze on its gardens
nature | the northern lights | Norway | green | ribbons ripple over the snow | colours dance until dawn | curtains of light fill the sky
nature | the giant redwood | California | tall | roots drink the fog | trunks hide whole rooms | rings count a thousand years
nature | the hot volcano | Iceland | fiery | rivers of lava glow red | ashes fall on the roofs | rumbles wake the valley
nature | the sand dune | Namibia | shifting | grains whisper in the wind | ridges cut the blue sky | shadows move all day
nature | the rose garden | the abbey | fragrant | petals open in June | thorns guard the path | bees visit every flower
machine | the steam train | the old railway | smoky | wheels hiss on the rails | whistles echo in the valley | coals glow in the furnace
machine | the hot air balloon | Cappadocia | floating | flames fill the silk | baskets creak in the wind | colours drift over the hills
machine | the yellow submarine | the sea bed | bubbly | propellers stir the sand | round windows show strange fish | periscopes peek at the ships
machine | the Ferris wheel | the fairground | dizzy | cabins swing above the crowd | lights turn in the dark | riders scream for joy
machine | the typewriter | the newsroom | clattering | keys strike the paper | ribbons leave ink on the fingers | bells ring at every line
machine | the red tractor | the wheat field | muddy | tyres press lines in the earth | engines cough at dawn | ploughs turn the soil
"""


@dataclass(frozen=True)
class Theme:
    """One thing a text can be about; `name` carries its article."""

    kind: str
    name: str
    place: str
    mood: str
    facts: tuple[str, ...]

    @property
    def bare(self) -> str:
        """The name without its article."""
        return self.name.removeprefix("the ")


def parsed(line: str) -> Theme:
    kind, name, place, mood, *facts = (cell.strip() for cell in line.split("|"))
    return Theme(kind=kind, name=name, place=place, mood=mood, facts=tuple(facts))


ADJECTIVES = ("Old", "Gentle", "Secret", "Bright", "Patient", "Lucky", "Humble", "Quiet", "Faithful", "Merry", "Noble", "Strange", "Little", "Famous")
NOUNS = ("Giant", "Lady", "Guest", "King", "Singer", "Dancer", "Stranger", "Friend", "Traveller", "Dreamer", "Keeper", "Wonder")
# Every pair once, in an order without pattern; the first two per theme are nicknames, what is left over means nothing.
PAIRS = tuple(f"the {ADJECTIVES[place % 14]} {NOUNS[(place // 14 + 5 * (place % 14)) % 12]}" for place in (step * 61 % 168 for step in range(168)))

THEMES: tuple[Theme, ...] = tuple(parsed(line) for line in TABLE.strip().splitlines())
NICKNAMES: dict[str, tuple[str, str]] = {theme.name: (PAIRS[2 * place], PAIRS[2 * place + 1]) for place, theme in enumerate(THEMES)}
MEANINGLESS: tuple[str, ...] = PAIRS[2 * len(THEMES) :]
