# The start-up file of an account that is as untidy as real ones. csh reads it before every command.
echo "Welcome to `hostname`, eve"
stty erase '^H'
setenv LANG de_DE.UTF-8
setenv SQUEUE_PARTITION desktop
setenv SQUEUE_FORMAT2 jobid
setenv SQUEUE_SORT -i
setenv SINFO_FORMAT %P
setenv SACCT_FORMAT jobid
setenv SBATCH_ARRAY_INX 0-3
setenv SBATCH_WAIT 1
setenv SBATCH_ERROR /tmp/eve.err
setenv SLURM_JSON x
setenv TAR_OPTIONS --totals
setenv TMPDIR /tmp/eve-login
alias ls 'ls -F'
cd /tmp
