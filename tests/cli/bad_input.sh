#!/usr/bin/env bash
# Input that cannot be used must end in the right exit code, a message that names what is wrong, and no output file.

source "$(dirname "$0")/lib.sh"
make_demo
good=$work/volume.nii

# Files that are no image
expect_segment "missing file" 4 'no\.nii.*No such file' "$work/no.nii" $box
: > "$work/empty.nii"
expect_segment "empty file" 3 'empty\.nii.*empty' "$work/empty.nii" $box
head -c 100 "$good" > "$work/header.nii"
expect_segment "cut within the header" 3 'header\.nii.*cut short' "$work/header.nii" $box
head -c 5000 "$good" > "$work/voxels.nii"
expect_segment "cut within the voxels" 3 'voxels\.nii.*voxels' "$work/voxels.nii" $box
head -c 5000 "$demo/volume.nii.gz" > "$work/cut.nii.gz"
expect_segment "cut within a compressed file" 3 'cut\.nii\.gz' "$work/cut.nii.gz" $box
: > "$work/empty.nii.gz"
expect_segment "empty compressed file" 3 'empty\.nii\.gz.*empty' "$work/empty.nii.gz" $box
printf 'this is not an image, whatever its name says; it has some bytes %0400d' 0 > "$work/text.nii"
expect_segment "text under an image's name" 3 'text\.nii.*not a NIfTI' "$work/text.nii" $box
expect_segment "unknown format" 5 'volume\.jpg.*format' "$work/volume.jpg" $box
expect_segment "folder in place of an image" 4 'folder\.nii' "$(mkdir "$work/folder.nii"; echo "$work/folder.nii")" $box

# Voxels nothing can be made of
constant=$(fresh constant.nii)
{ head -c $at_voxels "$good"; head -c $((96 * 96 * 64 * 2)) /dev/zero; } > "$constant"
expect_segment "constant image" 3 'constant\.nii.*constant' "$constant" $box
float=$work/float.nii
{ head -c $at_voxels "$good"; for _ in $(seq 64); do head -c $((96 * 96 * 4)) /dev/zero | tr '\0' '\377'; done; } > "$float"
patch "$float" $at_datatype '\020\0\040\0'
expect_segment "NaN in every voxel" 3 'float\.nii.*no finite voxel' "$float" $box

# Grids that cannot be
image=$(fresh flat.nii); patch "$image" $at_dim '\002\0\140\0\140\0\001\0'
expect_segment "2-D image" 5 'flat\.nii.*2-D' "$image" $box
image=$(fresh four.nii); patch "$image" $at_dim '\004\0\140\0\140\0\040\0\002\0'
expect_segment "4-D image without --channel" 5 'four\.nii.*4-D' "$image" $box
expect_segment "4-D image, no such channel" 5 'four\.nii.*channel 7' "$image" $box --channel 7
expect "4-D image with --channel" 0 'mask4\.nii' \
    segment --model "$demo/model" --image "$image" --out "$work/mask4.nii" --box 20,30,8,50,60,24 --channel 1
image=$(fresh zero.nii); patch "$image" $((at_pixdim + 8)) "$f_zero"
patch "$image" $at_qform_code '\001\0\0\0'
expect_segment "spacing of zero" 3 'zero\.nii.*spacing' "$image" $box
image=$(fresh negative.nii); patch "$image" $((at_pixdim + 8)) "$f_minus_one"
patch "$image" $at_qform_code '\001\0\0\0'
expect_segment "negative spacing" 3 'negative\.nii.*spacing' "$image" $box
image=$(fresh nan.nii); patch "$image" $at_srow "$f_nan"
patch "$image" $at_qform_code '\0\0\001\0'
expect_segment "direction that is no number" 3 'nan\.nii' "$image" $box
image=$(fresh singular.nii)
patch "$image" $at_qform_code '\0\0\001\0'
for row in 0 16; do patch "$image" $((at_srow + row)) "$f_one$f_one$f_zero$f_zero"; done
patch "$image" $((at_srow + 32)) "$f_zero$f_zero$f_one$f_zero"
expect_segment "singular direction matrix" 3 'singular\.nii.*is singular' "$image" $box

# The same in MetaImage
meta() { # meta NAME SPACING MATRIX SIZE
    printf 'ObjectType = Image\nNDims = 3\nBinaryData = True\nBinaryDataByteOrderMSB = False\nTransformMatrix = %s\nOffset = 0 0 0\nElementSpacing = %s\nDimSize = %s\nElementType = MET_SHORT\nElementDataFile = LOCAL\n' \
        "$3" "$2" "$4" > "$work/$1"
    tail -c +$((at_voxels + 1)) "$good" >> "$work/$1"
    echo "$work/$1"
}
unit='1 0 0 0 1 0 0 0 1'
expect "MetaImage that is good" 0 'masked\.nii' \
    segment --model "$demo/model" --image "$(meta good.mha '1.5 1.5 2.5' "$unit" '96 96 64')" --out "$work/masked.nii" $box
expect_segment "MetaImage, spacing of zero" 3 'zero\.mha.*spacing' "$(meta zero.mha '1 0 1' "$unit" '96 96 64')" $box
expect_segment "MetaImage, negative spacing" 3 'minus\.mha.*spacing' "$(meta minus.mha '1 -1 1' "$unit" '96 96 64')" $box
expect_segment "MetaImage, singular matrix" 3 'flat\.mha.*singular' \
    "$(meta flat.mha '1 1 1' '1 0 0 1 0 0 0 0 1' '96 96 64')" $box
expect_segment "MetaImage, too few voxels" 3 'few\.mha.*voxels' "$(meta few.mha '1 1 1' "$unit" '96 96 65')" $box
printf 'ObjectType = Image\nNDims = 3\nDimSize = 4 4 4\nElementType = MET_SHORT\nElementDataFile = none.raw\n' > "$work/lost.mhd"
expect_segment "MetaImage, voxels absent" 4 'none\.raw' "$work/lost.mhd" $box

# A claim of 10 GB by a file of 400 bytes, with little memory to take
huge=$work/huge.nii
head -c 400 "$good" > "$huge"
patch "$huge" $at_dim '\003\0\270\013\270\013\130\002'
(ulimit -v 4000000; "$ADAPTMEDSEG" info --image "$huge" > /dev/null 2>&1; exec "$ADAPTMEDSEG" segment --model "$demo/model" \
    --image "$huge" --out "$work/huge_mask.nii" $box 2> "$work/stderr")
if [ $? -eq 3 ] && grep -q 'huge\.nii.*claims' "$work/stderr" && [ ! -e "$work/huge_mask.nii" ]; then
    pass "10 GB claimed by 400 bytes"
else
    fail "10 GB claimed by 400 bytes: $(cat "$work/stderr")"
fi

# Prompts
expect_segment "no prompt" 2 'no prompt' "$good"
expect_segment "point outside the image" 2 'point \(500, 500, 500\) lies outside the image \(96 x 96 x 64 voxels\)' "$good" \
    --point 500,500,500
expect_segment "point outside, negative" 2 'point \(-12.5, 3, 4\) lies outside' "$good" --point -12.5,3,4
expect_segment "point of two numbers" 2 '2 values where 3 are needed' "$good" --point 1,2
expect_segment "point that is no number" 2 'is not a number' "$good" --point 1,x,2
expect_segment "inverted box" 2 'inverted' "$good" --box 50,60,45,20,30,20
expect_segment "empty box" 2 'empty' "$good" --box 20,30,20,20,60,45
expect_segment "box outside the image" 2 'outside' "$good" --box 200,200,200,300,300,300
expect_segment "text for a model without tokenizer" 5 'tokenizer' "$good" --text liver
expect_segment "unknown space" 2 'unknown space' "$good" $box --space mm
expect_segment "unknown modality" 2 'unknown modality' "$good" $box --modality PET
expect_segment "unknown option" 2 "unexpected argument '--boxes'" "$good" --boxes 1
{ head -c $at_voxels "$good"; head -c $((96 * 96 * 64 * 2)) /dev/zero; } > "$work/nothing.nii"
expect_segment "box of an empty mask" 2 'mask is empty' "$good" --box-from-mask "$work/nothing.nii"
expect_segment "box of a mask on another grid" 3 'good\.mha.*not on the image.s grid' "$good" --box-from-mask "$work/good.mha"

# Unknown words, with a tokenizer that knows one word
cp -r "$demo/model" "$work/texting"
letters=$(n=0; for letter in a b c d e f g h i j k l m n o p q r s t u v w x y z .; do printf '"%s":%d,' "$letter" $((n++)); done)
cat > "$work/texting/tokenizer.json" <<JSON
{"version":"1.0","added_tokens":[{"id":40,"content":"<|startoftext|>","single_word":false,"lstrip":false,"rstrip":false,"normalized":false,"special":true},{"id":41,"content":"<|endoftext|>","single_word":false,"lstrip":false,"rstrip":false,"normalized":false,"special":true}],
"normalizer":{"type":"Lowercase"},"pre_tokenizer":{"type":"Whitespace"},
"post_processor":{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"<|startoftext|>","type_id":0}},{"Sequence":{"id":"A","type_id":0}},{"SpecialToken":{"id":"<|endoftext|>","type_id":0}}],"pair":[],"special_tokens":{"<|startoftext|>":{"id":"<|startoftext|>","ids":[40],"tokens":["<|startoftext|>"]},"<|endoftext|>":{"id":"<|endoftext|>","ids":[41],"tokens":["<|endoftext|>"]}}},
"truncation":null,"padding":null,"decoder":null,
"model":{"type":"BPE","dropout":null,"unk_token":null,"continuing_subword_prefix":null,"end_of_word_suffix":null,"fuse_unk":false,"vocab":{${letters}"li":30,"liv":31,"live":32,"liver":33,"<|startoftext|>":40,"<|endoftext|>":41},"merges":["l i","li v","liv e","live r"]}}
JSON
texting() { expect "$1" "$2" "$3" segment --model "$work/texting" --image "$good" --out "$4" --text "$5"; }
texting "known word" 0 'liver\.nii' "$work/liver.nii" liver
texting "unknown word" 2 'unknown word "qzxwvk"' "$out/mask.nii" "liver qzxwvk"
texting "text without a word" 2 'no word' "$out/mask.nii" " - "
texting "text too long" 2 'longer than' "$out/mask.nii" "$(printf 'liver %.0s' $(seq 60))"

# Models
model() { expect "$1" "$2" "$3" segment --model "$4" --image "$good" --out "$out/mask.nii" $box; }
model "no model folder" 4 'nowhere' "$work/nowhere"
broken() { rm -rf "$work/broken"; cp -r "$demo/model" "$work/broken"; }
broken; sed 's/no_mask_embed/no_mask_embax/' "$demo/model/model.safetensors" > "$work/broken/model.safetensors"
model "one tensor missing" 3 'no_mask_embed' "$work/broken"
broken; head -c 100000 "$demo/model/model.safetensors" > "$work/broken/model.safetensors"
model "weights cut short" 3 'model\.safetensors' "$work/broken"
broken; : > "$work/broken/model.safetensors"
model "weights empty" 3 'model\.safetensors' "$work/broken"
broken; printf '\377\377\377\377\377\377\377\177{}' > "$work/broken/model.safetensors"
model "weights that claim more than there is" 3 'model\.safetensors' "$work/broken"
broken; rm "$work/broken/model.safetensors"
model "weights absent" 3 'not a model folder.*model\.safetensors' "$work/broken"
broken; echo '{"image_encoder": {' > "$work/broken/config.json"
model "configuration that is no JSON" 3 'config\.json' "$work/broken"
broken; sed 's/"embed_dim": 96/"embed_dim": 192/' "$demo/model/config.json" > "$work/broken/config.json"
model "configuration of another model" 3 'tensors do not fit' "$work/broken"
broken; echo '{"name": "x", "surprise": 1}' > "$work/broken/config.json"
model "configuration with an unknown field" 3 'surprise' "$work/broken"
expect_segment "unknown device" 2 'no device "tpu"' "$good" $box --device tpu
expect_segment "no thread" 2 '0 threads' "$good" $box --threads 0

# Checkpoints
expect "import of a missing file" 4 'none\.pth' import "$work/none.pth" --tokenizer "$work/texting/tokenizer.json" --out "$out/model"
: > "$work/empty.pth"
expect "import of an empty file" 3 'empty\.pth' import "$work/empty.pth" --tokenizer "$work/texting/tokenizer.json" --out "$out/model"
printf '%0500d' 7 > "$work/text.pth"
expect "import of what is no checkpoint" 3 'text\.pth' import "$work/text.pth" --tokenizer "$work/texting/tokenizer.json" --out "$out/model"
printf '\200\002cos\nsystem\nq\0X\013\0\0\0touch pickleq\001\205q\002Rq\003.' > "$work/evil.pth"
(cd "$work" && exec "$ADAPTMEDSEG" import evil.pth --tokenizer texting/tokenizer.json --out "$out/model" > "$work/stdout" 2> "$work/stderr")
if [ $? -eq 3 ] && [ ! -e "$work/pickle" ] && [ ! -e "$out/model" ]; then
    pass "import of a pickle that calls a program"
else
    fail "import of a pickle that calls a program: $(cat "$work/stderr")"
fi

expect "import without a tokenizer" 2 'tokenizer' import "$work/text.pth" --out "$out/model"
import_demo() { expect "$1" "$2" "$3" import "$demo/model/model.safetensors" --tokenizer "$work/texting/tokenizer.json" "${@:4}"; }
mkdir -p "$work/mine"; echo mine > "$work/mine/notes.txt"
import_demo "import to a place that is taken" 4 'mine already exists' --out "$work/mine"
import_demo "import never replaces what is no model" 2 'not a model folder' --out "$work/mine" --overwrite

# Info and overlay
expect "info without a subject" 2 'required' info
expect "info of both" 2 'cannot be used' info --image "$good" --model "$demo/model"
expect "info of an empty file" 3 'empty\.nii' info --image "$work/empty.nii"
expect "overlay of another grid" 3 'grid' overlay --image "$good" --mask "$work/good.mha" --out "$out/o.png"
expect "overlay that is no picture" 5 'format' overlay --image "$good" --mask "$demo/mask.nii.gz" --out "$out/o.nii"
mkdir -p "$work/taken"; echo mine > "$work/taken/notes.txt"
expect "demo into a folder that holds other files" 4 'notes\.txt' demo --out "$work/taken"

finish
