#!/bin/sh
# Make the demo's film, its HLS version and its poster with ffmpeg.
#
# The results are in the repository; the demo only serves them.  This script
# documents how they were made, and can make them again.  On Debian 12 it needs:
#
#     apt-get install ffmpeg fonts-dejavu-core
#
# The same ffmpeg build gives the same bytes each time (fixed seed, fixed
# number of threads, no dates and no versions written into the files).
#
# usage: make_film.sh [folder to write to; default: the folder of this script]

set -eu

out=${1:-$(dirname "$0")}
fonts=${FONTS:-/usr/share/fonts/truetype/dejavu}
sans=$fonts/DejaVuSans.ttf
bold=$fonts/DejaVuSans-Bold.ttf
mono=$fonts/DejaVuSansMono-Bold.ttf

for font in "$sans" "$bold" "$mono"; do
    if [ ! -r "$font" ]; then
        echo "make_film.sh: $font is missing: install fonts-dejavu-core" >&2
        exit 1
    fi
done

seconds=24      # six HLS segments of four seconds each
rate=25         # whole frames per second keep the timecode free of drop-frame
frames=$((seconds * rate))

mkdir -p "$out/hls"

# The picture, from back to front:
#   - a slow dark gradient
#   - three waves that travel: smooth motion that shows judder and lost frames
#   - a dial whose hand turns once in four seconds, which is one HLS segment
#   - timecode, frame number and segment number, which show the result of a seek
#   - a lamp that lights with the soft tick of each second: sound against picture
#   - a progress bar at the bottom
#   - colour bars, and a border of one pixel that shows cropping
#
# In the waves and the dial the shape is drawn into the alpha plane, so that
# the gradient shows through.
picture="
gradients=size=640x360:rate=$rate:duration=$seconds:speed=0.004:seed=7
    :nb_colors=3:c0=0x0b1b2e:c1=0x12464e:c2=0x2a2350
    :x0=0:y0=0:x1=640:y1=360,
    format=yuv420p[back];

color=c=0x5fd0c5:size=640x96:rate=$rate:duration=$seconds,format=yuva420p,
    geq=lum='lum(X,Y)':cb='cb(X,Y)':cr='cr(X,Y)'
    :a='min(255,
        150*exp(-pow((Y-48-30*sin(X/55+T*PI/2))/2.2,2))
       +100*exp(-pow((Y-48-24*sin(X/38-T*PI/2))/1.8,2))
       +70*exp(-pow((Y-48-34*sin(X/90+T*PI))/1.6,2)))'[waves];

color=c=0xffc46b:size=120x120:rate=$rate:duration=$seconds,format=yuva420p,
    geq=lum='lum(X,Y)':cb='cb(X,Y)':cr='cr(X,Y)'
    :a='st(0,hypot(X-59.5,Y-59.5));
        st(1,mod(atan2(X-59.5,59.5-Y)/(2*PI)+1,1));
        st(2,mod(T,4)/4);
        235*exp(-pow((ld(0)-56)/1.3,2))
        +lt(ld(0),50)*gt(ld(0),6)*(
            if(lte(ld(1),ld(2)),60,0)
            +170*exp(-pow(ld(0)*2*PI*min(abs(ld(1)-ld(2)),1-abs(ld(1)-ld(2)))/1.6,2)))
        +220*lte(ld(0),4)'[dial];

color=c=0xffc46b:size=14x14:rate=$rate:duration=$seconds,format=yuva420p,
    geq=lum='lum(X,Y)':cb='cb(X,Y)':cr='cr(X,Y)'
    :a='255*clip(7-hypot(X-6.5,Y-6.5),0,1)*if(lt(mod(N,$rate),3),1,0.18)'[lamp];

smptebars=size=640x360:rate=$rate:duration=$seconds,
    crop=640:16:0:20,format=yuv420p[bars];
color=c=0xffc46b:size=640x4:rate=$rate:duration=$seconds[ruler];

[back][waves]overlay=x=0:y=196:format=yuv420[a];
[a][dial]overlay=x=484:y=44[b];
[b][lamp]overlay=x=36:y=163[c];
[c][bars]overlay=x=0:y=344[d];
[d]drawbox=x=0:y=336:w=640:h=4:color=white@0.18:t=fill[e];
[e][ruler]overlay=x='-640+640*(n+1)/$frames':y=336:eval=frame[f];
[f]
drawtext=fontfile=$bold:text='out of a private bucket':x=36:y=38:fontsize=26:fontcolor=white,
drawtext=fontfile=$sans:text='signed by Apache httpd on the way':x=36:y=72:fontsize=15:fontcolor=0xb9d7dc,
drawtext=fontfile=$mono:timecode='00\:00\:00\:00':rate=$rate:x=35:y=104:fontsize=44:fontcolor=0xffc46b,
drawtext=fontfile=$mono:text='frame %{eif\:n\:d\:3} of $frames':x=60:y=162:fontsize=16:fontcolor=white,
drawtext=fontfile=$mono:text='segment %{eif\:trunc(n/(4*$rate))\:d}':x=544-tw/2:y=172:fontsize=15:fontcolor=0xb9d7dc,
drawtext=fontfile=$sans:text='640 x 360   $rate fps   H.264 main + AAC':x=36:y=308:fontsize=13:fontcolor=0xb9d7dc,
drawtext=fontfile=$sans:text='usp_s3_wsgi':x=604-tw:y=308:fontsize=13:fontcolor=0xb9d7dc,
drawbox=x=0:y=0:w=640:h=360:color=white@0.5:t=1,
setsar=1,format=yuv420p
"

# The sound: a low, quiet chord that breathes, and a soft tick each second
# (a fifth higher where an HLS segment starts).
sound="aevalsrc='
      0.030*sin(2*PI*110*t)*(0.8+0.2*sin(2*PI*t/8))
    + 0.022*sin(2*PI*165*t)*(0.8+0.2*sin(2*PI*t/6))
    + 0.016*sin(2*PI*220*t)*(0.8+0.2*cos(2*PI*t/12))
    + 0.070*sin(2*PI*if(lt(mod(t,4),1),660,440)*mod(t,1))
           *exp(-14*mod(t,1))*min(1,mod(t,1)*200)'
    :sample_rate=48000:duration=$seconds,
    volume=4dB,afade=type=in:duration=0.5,afade=type=out:start_time=$((seconds - 1)):duration=1"

# A key frame every two seconds and nowhere else, so that the HLS segments can
# be made from the same stream without encoding again.  The colours are tagged
# as BT.601 (smpte170m), because players guess untagged colours.  The index is
# at the front (faststart): a player can start without requesting the end of
# the object.
ffmpeg -hide_banner -loglevel warning -nostdin -y \
    -f lavfi -i "$picture" -f lavfi -i "$sound" \
    -map 0:v -map 1:a -t "$seconds" \
    -c:v libx264 -profile:v main -level 3.0 -preset veryslow -threads 2 \
    -crf 22 -maxrate 420k -bufsize 840k \
    -x264-params "keyint=$((2 * rate)):min-keyint=$((2 * rate)):scenecut=0:open-gop=0" \
    -color_range tv -colorspace smpte170m \
    -color_primaries smpte170m -color_trc smpte170m \
    -c:a aac -b:a 48k -ac 1 \
    -map_metadata -1 -fflags +bitexact -flags:v +bitexact -flags:a +bitexact \
    -movflags +faststart "$out/film.mp4"

rm -f "$out"/hls/segment-*.ts "$out/hls/index.m3u8"
ffmpeg -hide_banner -loglevel warning -nostdin -y \
    -i "$out/film.mp4" -c copy -map 0 -fflags +bitexact \
    -f hls -hls_time 4 -hls_playlist_type vod -hls_flags independent_segments \
    -hls_segment_filename "$out/hls/segment-%d.ts" "$out/hls/index.m3u8"

# -loglevel error: for JPEG ffmpeg warns about its own choice of pixel format.
ffmpeg -hide_banner -loglevel error -nostdin -y \
    -ss 9.6 -i "$out/film.mp4" -frames:v 1 -update 1 -q:v 5 \
    -map_metadata -1 -fflags +bitexact -flags:v +bitexact "$out/poster.jpg"

ls -l "$out/film.mp4" "$out/poster.jpg" "$out/hls"
