"""Protocol B of the co-saliency evaluation: one distractor per five images of a group, at random positions, seed 0.

    python benchmarks/protocol_b.py DUTS-TR/groups.csv                   # writes benchmarks/protocol_b.csv
    python benchmarks/protocol_b.py DUTS-TR/groups.csv --folders OUT     # also writes the groups of A and B as folders

Protocol A uses the groups unchanged. `OUT/a` and `OUT/b` contain `images/GROUP/…` and `masks/GROUP/…`, with black masks
for the distractors. The images and masks are read from `images` and `masks` in the folder of the list. Then run

    keras-recnet cosal OUT/b/images --recursive -o maps
    keras-recnet evaluate --maps maps --masks OUT/b/masks --grouped
"""

import argparse
from pathlib import Path

from keras_recnet.pipelines import read_group_list, read_groups, with_distractors, write_group_folders, write_group_list

LIST = Path(__file__).with_suffix(".csv")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("groups", type=Path, help="CSV file with the columns group, name and split")
    parser.add_argument("--split", default="validation", help="default: validation")
    parser.add_argument("--every", type=int, default=5, help="images of the group per distractor (default: 5)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-o", "--out", type=Path, default=LIST, help="default: next to this script")
    parser.add_argument("--folders", type=Path, help="write the groups of both protocols to this folder")
    arguments = parser.parse_args()
    own = {
        group: [member.name for member in members]
        for group, members in read_group_list(arguments.groups, split=arguments.split).items()
    }
    listed = with_distractors(own, every=arguments.every, seed=arguments.seed)
    write_group_list(arguments.out, listed)
    distractors = sum(member.distractor for member in listed)
    print(f"{len(own)} groups, {len(listed) - distractors} images and {distractors} distractors -> {arguments.out}")
    if arguments.folders:
        data = arguments.groups.parent
        for name, path, split in (("a", arguments.groups, arguments.split), ("b", arguments.out, None)):
            write_group_folders(
                read_groups(path, data / "images", data / "masks", split=split), arguments.folders / name
            )


if __name__ == "__main__":
    main()
