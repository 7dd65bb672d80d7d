#!/bin/sh
# hello-tre: says hello and shows what a container run by the Container Execution Service can see.
#
# Usage: [-d|--duration SECONDS] [-n|--name NAME]      Environment: HELLO_TRE, the greeting (default: Hello)
#
# busybox sh runs this as process 1 of its container, so it handles signals itself. Values from outside (the greeting,
# the arguments, file names) are only printed with printf %s, so that nothing in them is interpreted.

line() { printf '%s\n' "$1"; }

clean_up() {
    line 'Cleaning up...'
    rm -f /scratch/scratch.txt
}

# stop CODE MESSAGE: print a message to standard error and exit.
stop() {
    printf 'hello-tre: %s\n' "$2" >&2
    clean_up
    exit "$1"
}

# While it sleeps, busybox sh handles a signal at once because it is in `wait`, not in a foreground command.
trap 'stop 143 "Stopped by signal TERM."' TERM
trap 'stop 130 "Stopped by signal INT."' INT

# facts PATH...: owner, group and permissions as `ls -l` shows them, with the numbers.
facts() { stat -c '%n: %U (%u) %G(%g) %A' "$@"; }

line 'Hello TRE!'
line ''
line 'Your container is now running.'
line ''
# busybox prints no groups if there is only the primary group.
who=$(id)
case $who in
*groups=*) ;;
*) who="$who groups=${who##*gid=}" ;;
esac
line "Your user 'id' within the container is: $who."
line ''

line 'Check mounted directories, ownership, permissions, file system type:'
for directory in /safe_data /scratch /safe_outputs; do
    if [ -d "$directory" ]; then
        # If stat does not know the type, the mount table does.
        type=$(stat -f -c '%T' "$directory")
        case $type in
        UNKNOWN*) type=$(df -PT "$directory" | awk 'NR == 2 { print $2 }') ;;
        esac
        line "$(facts "$directory") $type"
    else
        line "$directory: not mounted"
    fi
done
line ''

line 'Check read/write access to mounted directories'
line ''
line 'List /safe_data contents and write to /safe_outputs/safe_data.txt'
{
    facts /safe_data && find /safe_data -mindepth 1 -maxdepth 1 -exec stat -c '%n: %U (%u) %G(%g) %A' {} + | sort
} >/safe_outputs/safe_data.txt || stop 1 'Cannot write a list of /safe_data to /safe_outputs/safe_data.txt. Check that both are mounted.'

# write_check DIRECTORY NAME: write NAME.txt there and show it.
write_check() {
    line "Check write to $1"
    printf 'This text is in %s\n' "$2" >"$1/$2" || stop 1 "Cannot write $1/$2. Check that $1 is mounted read-write."
    line "Contents of $1/$2:"
    cat "$1/$2"
}
write_check /safe_outputs safe_outputs.txt
write_check /scratch scratch.txt
line ''

line "Look for optional 'HELLO_TRE' environment variable"
if [ -n "${HELLO_TRE+set}" ]; then
    line "Found optional 'HELLO_TRE' environment variable with value: $HELLO_TRE"
else
    line "No optional 'HELLO_TRE' environment variable found"
fi
line ''

line 'Parse command-line arguments'
line "Number of arguments: $#"
if [ $# -gt 0 ]; then
    line 'Arguments (one per line):'
    for argument in "$@"; do
        line "    $argument"
    done
fi
line ''

duration=0
name=user
while [ $# -gt 0 ]; do
    option=$1
    case $option in
    -d | --duration | -n | --name)
        [ $# -ge 2 ] || stop 2 "$option needs a value after it."
        value=$2
        shift 2
        ;;
    --duration=* | --name=*)
        value=${option#*=}
        option=${option%%=*}
        shift
        ;;
    *) stop 2 "Unknown argument '$option'. Use -d|--duration SECONDS and -n|--name NAME." ;;
    esac
    case $option in
    -n | --name)
        [ -n "$value" ] || stop 2 "$option needs a name that is not empty."
        name=$value
        ;;
    *)
        case $value in
        '' | *[!0-9]* | ????????*) stop 2 "$option needs a whole number of seconds from 0 to 9999999, not '$value'." ;;
        esac
        while [ "$value" != 0 ] && [ "$value" != "${value#0}" ]; do
            value=${value#0}
        done
        duration=$value
        ;;
    esac
done

line "${HELLO_TRE:-Hello} $name!"
line ''
if [ "$duration" -gt 0 ]; then
    seconds=0
    line "Sleeping for $duration seconds..."
    while [ "$seconds" -lt "$duration" ]; do
        sleep 1 &
        wait $!
        seconds=$((seconds + 1))
        line "$seconds"
    done
    line '...and awake!'
    line ''
fi
line "For more container examples and ideas, visit:"
line "  https://github.com/EPCCed/tre-container-samples"
line "Goodbye $name!"
clean_up
